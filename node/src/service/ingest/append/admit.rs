//! Letting the parts of a stream in, as there is room.

use seawall_host::probe::sometimes;
use seawall_host::time::Instant;
use seawall_proto::v1::{self, append_response as answer};

use super::{AppendStream, Refusal};
use crate::service::admission::Admitted;
use crate::service::ingest::lock;
use crate::service::ingest::too_large::TooLarge;

impl AppendStream {
    /// Lets a part in. A transaction that did not get through for want of room is refused at its first part from then on,
    /// until there is room for as much of it as is known.
    pub(super) async fn admit(&mut self, part: &v1::SegmentPart) -> Result<Admitted, Refusal> {
        let bytes = part.payload.len();
        if part.part == 0 {
            self.arrived = 0;
        }
        let is_first = part.part == 0 && !part.is_last;
        let known = lock(&self.shared.too_large).get(&self.database).copied().filter(|_| is_first);
        if let Some((known, pause)) = known.and_then(|known| Some((known, known.pause(Instant::now())?))) {
            let message = format!(
                "a transaction of at least {} MiB is too large at present: it is let in again, if there is room, in {} s",
                known.bytes >> 20,
                pause.as_secs() + 1
            );
            return Err(self.refused(answer::Reason::NoSpace, message));
        }
        let admitted = self.shared.admission.admit(bytes, known.map(|known| known.bytes)).await;
        self.arrived += bytes as u64;
        match &admitted {
            Ok(_) if part.is_last => _ = lock(&self.shared.too_large).remove(&self.database),
            Ok(_) => {}
            Err(_) => {
                sometimes("append refused for lack of space");
                if part.part > 0 {
                    let mut too_large = lock(&self.shared.too_large);
                    let before = too_large.get(&self.database).copied();
                    let known = TooLarge::cut_off(before, self.arrived, Instant::now());
                    too_large.insert(self.database.clone(), known);
                }
            }
        }
        admitted.map_err(|error| self.refused(answer::Reason::NoSpace, error))
    }

    pub(super) fn is_an_upload_failing(&self) -> bool {
        let receipts = &self.shared.receipts;
        receipts.destinations().iter().any(|name| receipts.last_error(&self.database, name).is_some())
    }
}
