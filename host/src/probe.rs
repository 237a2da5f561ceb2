//! What the simulator wants to know of the product, and what it may break in it on purpose.

/// Tells the world that a rare path was taken; costs a virtual call. Names are sentences without a verb, such as
/// `"leader change during upload"`; every one of them must be reached by the simulator's runs.
pub fn sometimes(path: &'static str) {
    crate::world::current().reached(path);
}

/// Whether the deliberate defect `name` is switched on. Always false, and compiled away, unless this crate is built
/// with its feature `mutants`: only the simulator and the chaos harness do that, to show that they would find such a defect.
#[inline]
pub fn mutant(name: &'static str) -> bool {
    #[cfg(feature = "mutants")]
    return crate::world::current().has_mutant(name);
    #[cfg(not(feature = "mutants"))]
    {
        let _ = name;
        false
    }
}

/// What a program that was built with deliberate defects has to say of itself; nothing in any other.
pub fn defects() -> Option<String> {
    #[cfg(feature = "mutants")]
    return Some(match crate::world::current().mutants().join(", ") {
        none if none.is_empty() => "built with deliberate defects, none of them switched on: never use it".to_owned(),
        some => format!("built with deliberate defects, of which these are switched on: {some}: never use it"),
    });
    #[cfg(not(feature = "mutants"))]
    None
}
