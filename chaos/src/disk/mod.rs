//! Disks to put data directories on: one that loses what was not synced, stalls and fails, and one that is small.

mod contents;
mod faulty_disk;
mod filesystem;
mod lost;
mod names;
mod pending;
mod small_disk;
mod survival;
mod syncs;
mod unmount;
mod volume;

pub use faulty_disk::FaultyDisk;
pub use lost::Lost;
pub use small_disk::SmallDisk;

#[cfg(test)]
mod tests;
