//! Starts again what ended by itself.

use std::time::Duration;

use super::Stopper;
use crate::history::{Event, Recorder};
use crate::service::Service;

/// How often each service is looked at: as long as a service manager waits before it starts something again.
const PERIOD: Duration = Duration::from_millis(500);

/// Looks after these services until it is stopped.
pub fn supervise<'a>(services: impl Fn() -> Vec<&'a Service>, recorder: &Recorder, stopper: &Stopper) {
    while !stopper.wait(PERIOD) {
        for service in services() {
            if let Err(error) = service.supervise() {
                recorder.record(Event::EndedByItself { process: service.name().to_owned(), ending: error.to_string() });
            }
        }
    }
}
