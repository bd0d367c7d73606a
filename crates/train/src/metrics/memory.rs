//! How much memory the process holds.

/// Memory of this process, MiB.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ResidentMemory {
    /// Held now.
    pub now_mib: f64,
    /// Most held so far.
    pub peak_mib: f64,
}

impl ResidentMemory {
    /// Asks the system; `None` where it keeps no `/proc`.
    pub fn read() -> Option<Self> {
        Self::parse(&std::fs::read_to_string("/proc/self/status").ok()?)
    }

    fn parse(status: &str) -> Option<Self> {
        let mebibytes = |name: &str| -> Option<f64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            let kibibytes: f64 = line.split_whitespace().next()?.parse().ok()?;
            Some(kibibytes / 1024.0)
        };
        Some(Self {
            now_mib: mebibytes("VmRSS:")?,
            peak_mib: mebibytes("VmHWM:")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_numbers_are_read_in_mebibytes() {
        let status = "Name:\tseele\nVmHWM:\t    4096 kB\nVmRSS:\t    1536 kB\n";
        let expected = ResidentMemory {
            now_mib: 1.5,
            peak_mib: 4.0,
        };
        assert_eq!(ResidentMemory::parse(status), Some(expected));
        assert_eq!(ResidentMemory::parse("Name:\tseele\n"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_process_has_memory_and_never_more_than_its_peak() {
        let memory = ResidentMemory::read().unwrap();
        assert!(0.0 < memory.now_mib && memory.now_mib <= memory.peak_mib);
    }
}
