//! Times of day.

/// Compares two times such as `4:30 p.m.` and `\text{4:30 PM}`; `None` unless both are times and at
/// least one cannot be a ratio: it names its half of the day, or has minutes below ten.
///
/// A missing half of the day is like a missing unit: it contradicts nothing.
pub(super) fn compare_times(gold: &str, answer: &str) -> Option<bool> {
    if !gold.contains(':') || !answer.contains(':') {
        return None;
    }
    let (gold, answer) = (read(gold)?, read(answer)?);
    let certain = |time: &Time| time.half.is_some() || time.minutes < 10;
    if !certain(&gold) && !certain(&answer) {
        return None;
    }
    let same_half = gold.half.is_none() || answer.half.is_none() || gold.half == answer.half;
    Some(
        gold.hours == answer.hours
            && gold.minutes == answer.minutes
            && gold.seconds == answer.seconds
            && same_half,
    )
}

struct Time {
    hours: u32,
    minutes: u32,
    seconds: u32,
    /// `a` or `p`.
    half: Option<u8>,
}

fn read(text: &str) -> Option<Time> {
    // Macros and layout around the digits: only letters, digits, colons and stops matter.
    let mut plain = String::with_capacity(16);
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        match c {
            '\\' => {
                let name = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
                if name > 0
                    && !matches!(
                        &rest[..name],
                        "text" | "mbox" | "mathrm" | "textrm" | "textbf" | "mathbf" | "quad"
                    )
                {
                    return None;
                }
                rest = if name > 0 {
                    &rest[name..]
                } else {
                    rest.get(1..)?
                };
            }
            '{' | '}' | ' ' | '.' | '~' | '$' | ',' => {}
            c if c.is_ascii_alphanumeric() || c == ':' => plain.push(c.to_ascii_lowercase()),
            _ => return None,
        }
        if plain.len() > 12 {
            return None;
        }
    }
    let (digits, half) = match plain.strip_suffix('m') {
        Some(rest) if rest.ends_with(['a', 'p']) => (&rest[..rest.len() - 1], rest.bytes().last()),
        _ => (plain.as_str(), None),
    };
    let mut fields = digits.split(':');
    let hours = fields.next()?;
    let minutes = fields.next()?;
    let seconds = fields.next().unwrap_or("00");
    if fields.next().is_some()
        || !(1..=2).contains(&hours.len())
        || minutes.len() != 2
        || seconds.len() != 2
    {
        return None;
    }
    let (hours, minutes, seconds) = (
        hours.parse().ok()?,
        minutes.parse().ok()?,
        seconds.parse().ok()?,
    );
    (hours <= 24 && minutes < 60 && seconds < 60).then_some(Time {
        hours,
        minutes,
        seconds,
        half,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_times() {
        assert_eq!(
            compare_times(r"\text{4:30 p.m.}", r"4:30 \text{ p.m.}"),
            Some(true)
        );
        assert_eq!(compare_times(r"\text{1:03 PM}", "1:03"), Some(true));
        assert_eq!(compare_times("12:00", "1:00"), Some(false));
        assert_eq!(compare_times("4:30 am", "4:30 pm"), Some(false));
    }

    #[test]
    fn ratios_are_not_times() {
        assert_eq!(compare_times("3:10", "6:20"), None);
        assert_eq!(compare_times("3:4", "6:8"), None);
        assert_eq!(compare_times("A:B", "4:30 pm"), None);
    }
}
