//! Numbers the way people read them.

use std::time::Duration;

/// `1234567` as `1,234,567`.
pub(crate) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A duration in its largest fitting units: `3 ms`, `0.4 s`, `42 s`, `3 min 05 s`, `2 h 07 min`.
pub(crate) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    let whole = seconds.round() as u64;
    if seconds < 0.0995 {
        format!("{:.0} ms", (1e3 * seconds).ceil())
    } else if seconds < 9.95 {
        format!("{seconds:.1} s")
    } else if whole < 60 {
        format!("{whole} s")
    } else if whole < 3600 {
        format!("{} min {:02} s", whole / 60, whole % 60)
    } else {
        format!("{} h {:02} min", whole / 3600, whole % 3600 / 60)
    }
}

/// Bytes in binary units with three figures: `512 B`, `1.50 MiB`, `12.3 GiB`.
pub(crate) fn bytes(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut size = bytes as f64;
    let mut unit = 0;
    while size >= 1024.0 && unit + 1 < units.len() {
        size /= 1024.0;
        unit += 1;
    }
    let places = if unit == 0 || size >= 100.0 {
        0
    } else if size >= 10.0 {
        1
    } else {
        2
    };
    format!("{size:.places$} {}", units[unit])
}

/// A share as a percentage with one place; `-` where there is none.
pub(crate) fn percent(share: Option<f64>) -> String {
    share.map_or_else(|| "-".into(), |share| format!("{:.1} %", 100.0 * share))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well_at_the_edges_of_their_units() {
        assert_eq!(
            [0, 999, 1000, 1_234_567].map(thousands),
            ["0", "999", "1,000", "1,234,567"]
        );
        let durations = [
            0.0, 0.0002, 0.04, 0.0996, 9.9, 9.96, 59.4, 59.6, 185.0, 3599.6, 7620.0,
        ];
        assert_eq!(
            durations.map(|seconds| duration(Duration::from_secs_f64(seconds))),
            [
                "0 ms",
                "1 ms",
                "40 ms",
                "0.1 s",
                "9.9 s",
                "10 s",
                "59 s",
                "1 min 00 s",
                "3 min 05 s",
                "1 h 00 min",
                "2 h 07 min"
            ]
        );
        assert_eq!(
            [0, 1023, 1536, 12 << 30, u64::MAX].map(bytes),
            ["0 B", "1023 B", "1.50 KiB", "12.0 GiB", "16384 PiB"]
        );
        assert_eq!([Some(0.4125), None].map(percent), ["41.2 %", "-"]);
    }
}
