//! What the machine has to give.

pub use seele_policy::machine::free_memory;
use std::path::Path;

/// Room for files below `folder`, which need not be there yet, bytes; `None` where the system does not say.
pub fn free_disk(folder: &Path) -> Option<u64> {
    // A folder that is to be made lies on the disk of the nearest one above it.
    let absolute = std::path::absolute(folder).ok()?;
    let there = absolute.ancestors().find(|folder| folder.exists())?;
    free_on_disk_of(there)
}

#[cfg(unix)]
fn free_on_disk_of(folder: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(folder).ok()?;
    disk.f_bavail.checked_mul(disk.f_frsize)
}

#[cfg(not(unix))]
fn free_on_disk_of(_: &Path) -> Option<u64> {
    None
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_disk_has_room_even_for_folders_to_come() {
        let folder = tempfile::tempdir().unwrap();
        let disk = free_disk(&folder.path().join("runs/new-1"));
        assert!(disk > Some(1 << 20));
    }
}
