//! Panics of simulated tasks: noted with their place, wherever they are caught.

use std::cell::RefCell;
use std::panic;
use std::sync::Once;

thread_local! {
    static LAST: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Notes panics of threads that run a world instead of printing them; others are printed as ever.
pub(super) fn install_hook() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if super::try_current().is_none() {
                return usual(info);
            }
            let message = info.payload_as_str().unwrap_or("no message");
            let place = info.location().map(ToString::to_string).unwrap_or_default();
            LAST.with(|last| *last.borrow_mut() = Some(format!("{message} ({place})")));
        }));
    });
}

/// The last panic since the last call.
pub(super) fn take() -> Option<String> {
    LAST.with(|last| last.borrow_mut().take())
}
