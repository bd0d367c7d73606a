//! Numbered steps of a text.

/// The steps of a text whose lines begin with `1.`, `2)`, `Step 3:`, `**4.**` and the like, counted from
/// 1 without a gap; they join to the text from the first of them on, white space at its end left out.
/// What stands in front of the first step belongs to none.
///
/// `None` if no line begins with 1.
pub fn steps_of(text: &str) -> Option<Vec<String>> {
    let mut steps: Vec<String> = Vec::new();
    for line in text.trim_end().split_inclusive('\n') {
        if number_of(line) == Some(steps.len() + 1) {
            steps.push(line.to_owned());
        } else if let Some(step) = steps.last_mut() {
            step.push_str(line);
        }
    }
    (!steps.is_empty()).then_some(steps)
}

/// The number that a line begins with as a step.
fn number_of(line: &str) -> Option<usize> {
    let decoration = |c: char| c.is_whitespace() || c == '*' || c == '#';
    let line = line.trim_start_matches(decoration);
    let word = line
        .get(..4)
        .filter(|word| word.eq_ignore_ascii_case("step"));
    let rest = match word {
        Some(_) => line.get(4..)?.trim_start(),
        None => line,
    };
    let end = rest.find(|c: char| !c.is_ascii_digit())?;
    let (digits, rest) = rest.split_at(end);
    let number = digits.parse().ok()?;
    let mark = rest.trim_start_matches(['*', ' ']);
    let after = mark.strip_prefix(['.', ')', ':'])?;
    // `1.5 litres` is no step.
    (!after.starts_with(|c: char| c.is_ascii_digit())).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_found_in_the_forms_that_models_write() {
        for (text, expected) in [
            ("1. a\n2. b", vec!["1. a\n", "2. b"]),
            (
                "Here it is:\n\n1) a\n   so\n\n2) b \n",
                vec!["1) a\n   so\n\n", "2) b"],
            ),
            (
                "**Step 1:** a\n**Step 2:** b",
                vec!["**Step 1:** a\n", "**Step 2:** b"],
            ),
            (
                "### step 1. a\n**2.** b\nAnswer: \\boxed{3}",
                vec!["### step 1. a\n", "**2.** b\nAnswer: \\boxed{3}"],
            ),
            ("**1**. a", vec!["**1**. a"]),
        ] {
            assert_eq!(steps_of(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn other_numbers_begin_no_step() {
        assert_eq!(steps_of("2. b\n3. c"), None);
        assert_eq!(steps_of("1.5 litres\n12 men\n1"), None);
        let one = steps_of("1. First\n1. again\n3. skips\n2.5 is more\n2. Second").unwrap();
        assert_eq!(
            one,
            ["1. First\n1. again\n3. skips\n2.5 is more\n", "2. Second"]
        );
        assert_eq!(steps_of(""), None);
        assert_eq!(steps_of("st\u{e9}p 1. a"), None);
    }
}
