//! Taking certificates that were renewed, without a restart.

use std::sync::Arc;
use std::time::Duration;

use seawall_host::time;

use super::super::file_watch::FileWatch;
use super::expiry::Reminder;
use super::live::Tls;

/// Certificate and key are written one after the other; between them they do not go together.
const SECOND_LOOK: Duration = Duration::from_secs(1);

/// Reads the files of `tls` again whenever they change, and tells of the certificate's end.
pub(in super::super) async fn keep_current(tls: Arc<Tls>) {
    let watch = FileWatch::new(tls.paths());
    let mut reminder = Reminder::default();
    let mut told = None;
    loop {
        reminder.look(&tls.files().cert, tls.not_after());
        watch.changed().await;
        let mut read = tls.reload().await;
        if read.is_err() {
            time::sleep(SECOND_LOOK).await;
            read = tls.reload().await;
        }
        match read {
            Ok(changed) => {
                told = None;
                if changed {
                    let not_after = tls.not_after();
                    tracing::info!(file = %tls.files().cert.display(), not_after, "certificates were taken anew");
                    metrics::counter!("seawall_certificate_reloads_total", "result" => "ok").increment(1);
                }
            }
            Err(error) => {
                let error = error.to_string();
                if told.as_ref() != Some(&error) {
                    metrics::counter!("seawall_certificate_reloads_total", "result" => "failed").increment(1);
                    tracing::error!(error, "certificates cannot be taken anew; the last ones are used on");
                    told = Some(error);
                }
            }
        }
    }
}
