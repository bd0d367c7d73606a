//! `seele explain`: what the logged numbers mean.

use crate::exit::{self, Unusable};
use crate::output::print;
use seele_train::metrics::{GLOSSARY, Glossary, depends_on_machine};
use seele_train::recipe::nearest;

/// Say what the numbers in metrics.jsonl mean and what to expect of them.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  seele explain                                   all of them, a line each
  seele explain policy/kl hint/round_2/accuracy   formula, unit, what to expect")]
pub(crate) struct Args {
    /// Names as in metrics.jsonl.
    metrics: Vec<String>,
}

/// Runs the command.
///
/// # Errors
/// A name that is no metric.
pub(crate) fn run(args: &Args) -> anyhow::Result<u8> {
    let mut out = String::new();
    if args.metrics.is_empty() {
        for entry in GLOSSARY {
            out.push_str(&format!("{:<30} {}\n", entry.key, entry.meaning));
        }
    }
    for (index, name) in args.metrics.iter().enumerate() {
        let Some(entry) = find(name) else {
            let known = GLOSSARY.iter().map(|entry| entry.key);
            let remedy = match nearest(name, known) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "`seele explain` lists them all".into(),
            };
            return Err(Unusable(format!("no metric is called `{name}`; {remedy}")).into());
        };
        if index > 0 {
            out.push('\n');
        }
        let Glossary {
            key,
            meaning,
            formula,
            unit,
            expect,
        } = entry;
        out.push_str(&format!(
            "{key}: {meaning}\n  formula  {formula}\n  unit     {unit}\n  expect   {expect}\n"
        ));
        if depends_on_machine(key) {
            out.push_str("  varies   between runs of one recipe, with the clock and the machine\n");
        }
    }
    print(&out)?;
    Ok(exit::DONE)
}

/// The entry of a name; `<i>` and `<name>` stand for any part.
fn find(name: &str) -> Option<&'static Glossary> {
    GLOSSARY
        .iter()
        .find(|entry| match entry.key.split_once('<') {
            None => entry.key == name,
            Some((start, rest)) => {
                let end = rest.split_once('>').map_or("", |(_, end)| end);
                let is_placed =
                    |rest: &str| rest.strip_suffix(end).is_some_and(|part| !part.is_empty());
                entry.key == name || name.strip_prefix(start).is_some_and(is_placed)
            }
        })
}

#[cfg(test)]
mod tests {
    use super::find;

    #[test]
    fn names_with_a_round_or_a_set_are_found() {
        let key = |name: &str| find(name).map(|entry| entry.key);
        assert_eq!(key("policy/kl"), Some("policy/kl"));
        assert_eq!(
            key("hint/round_12/accuracy"),
            Some("hint/round_<i>/accuracy")
        );
        assert_eq!(key("hint/round_<i>/rate"), Some("hint/round_<i>/rate"));
        assert_eq!(key("eval/hard/accuracy"), Some("eval/<name>/accuracy"));
        assert_eq!(key("eval//accuracy"), None);
        assert_eq!(key("policy/k"), None);
    }
}
