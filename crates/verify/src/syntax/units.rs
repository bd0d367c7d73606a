//! Units of measurement: which words mean the same.
use smallvec::SmallVec;

/// A unit as a product of powers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Unit {
    /// Canonical names with exponents, sorted, no zero exponent.
    parts: SmallVec<[(&'static str, i8); 2]>,
    /// Every word of it is known. Unknown words ("apples") never contradict another unit.
    pub(crate) recognised: bool,
    /// The plain letters it was written in, when they could also be a product of symbols.
    pub(crate) letters: Option<SmallVec<[(u8, i8); 2]>>,
}

impl Unit {
    /// The unit of angles.
    pub(crate) fn degree() -> Self {
        Self {
            parts: SmallVec::from_slice(&[("degree", 1)]),
            recognised: true,
            letters: None,
        }
    }

    /// The unit of the dollar sign.
    pub(crate) fn dollar() -> Self {
        Self {
            parts: SmallVec::from_slice(&[("dollar", 1)]),
            recognised: true,
            letters: None,
        }
    }

    /// A unit nobody knows.
    pub(crate) fn unknown() -> Self {
        Self::default()
    }

    /// An empty product to build on.
    pub(crate) fn one() -> Self {
        Self {
            recognised: true,
            ..Self::default()
        }
    }

    /// True for an angle in degrees.
    pub(crate) fn is_degree(&self) -> bool {
        self.parts.as_slice() == [("degree", 1)]
    }

    /// True for an angle in radians.
    pub(crate) fn is_radian(&self) -> bool {
        self.parts.as_slice() == [("radian", 1)]
    }

    /// True for a percentage spelled as a word.
    pub(crate) fn is_percent(&self) -> bool {
        self.parts.as_slice() == [("percent", 1)]
    }

    /// The unit as a product of powers of one-letter symbols (`m s^{-2}`), which is how a reader of plain
    /// text sees it; `None` when a part has no such symbol.
    pub(crate) fn symbols(&self) -> Option<SmallVec<[(u8, i8); 2]>> {
        if !self.recognised || self.parts.is_empty() {
            return None;
        }
        self.parts
            .iter()
            .map(|(name, exponent)| {
                let names = UNITS.iter().find(|names| names.first() == Some(name))?;
                let symbol = names.iter().find(|name| name.len() == 1)?;
                Some((*symbol.as_bytes().first()?, *exponent))
            })
            .collect()
    }

    /// Multiplies by `name^exponent`.
    pub(crate) fn multiply(&mut self, name: &'static str, exponent: i8) {
        match self.parts.binary_search_by_key(&name, |part| part.0) {
            Ok(at) => {
                self.parts[at].1 = self.parts[at].1.saturating_add(exponent);
                if self.parts[at].1 == 0 {
                    self.parts.remove(at);
                }
            }
            Err(at) => self.parts.insert(at, (name, exponent)),
        }
    }

    /// True when the two cannot mean the same: both known and different.
    pub(crate) fn contradicts(&self, other: &Self) -> bool {
        self.recognised && other.recognised && self.parts != other.parts
    }
}

/// Words for each unit; the first is its canonical name.
const UNITS: &[&[&str]] = &[
    &["meter", "m", "meters", "metre", "metres"],
    &[
        "millimeter",
        "mm",
        "millimeters",
        "millimetre",
        "millimetres",
    ],
    &[
        "centimeter",
        "cm",
        "centimeters",
        "centimetre",
        "centimetres",
        "cms",
    ],
    &[
        "kilometer",
        "km",
        "kilometers",
        "kilometre",
        "kilometres",
        "kms",
    ],
    &["nanometer", "nm", "nanometers", "nanometre", "nanometres"],
    &["micrometer", "um", "micrometers", "micron", "microns"],
    &["angstrom", "angstroms", "Å"],
    &["inch", "in", "inches"],
    &["foot", "ft", "feet"],
    &["yard", "yd", "yards", "yds"],
    &["mile", "mi", "miles"],
    &["second", "s", "sec", "secs", "seconds"],
    &["millisecond", "ms", "milliseconds"],
    &["minute", "min", "mins", "minutes"],
    &["hour", "h", "hr", "hrs", "hours"],
    &["day", "days"],
    &["week", "weeks"],
    &["month", "months"],
    &["year", "yr", "yrs", "years"],
    &["gram", "g", "gm", "gms", "grams"],
    &["milligram", "mg", "milligrams"],
    &["kilogram", "kg", "kgs", "kilograms"],
    &["pound", "lb", "lbs", "pounds"],
    &["ounce", "oz", "ounces"],
    &["ton", "tons", "tonne", "tonnes"],
    &["liter", "L", "l", "liters", "litre", "litres"],
    &[
        "milliliter",
        "mL",
        "ml",
        "milliliters",
        "millilitre",
        "millilitres",
    ],
    &["gallon", "gal", "gallons"],
    &["quart", "qt", "quarts"],
    &["pint", "pt", "pints"],
    &["cup", "cups"],
    &["acre", "acres"],
    &["newton", "N", "newtons"],
    &["joule", "J", "joules"],
    &["kilojoule", "kJ", "kilojoules"],
    &["calorie", "cal", "calories"],
    &["kilocalorie", "kcal", "kilocalories"],
    &["watt", "W", "watts"],
    &["kilowatt", "kW", "kilowatts"],
    &["erg", "ergs"],
    &["electronvolt", "eV", "electronvolts"],
    &["pascal", "Pa", "pascals"],
    &["kilopascal", "kPa"],
    &["atmosphere", "atm", "atmospheres"],
    &["hertz", "Hz"],
    &["kilohertz", "kHz"],
    &["megahertz", "MHz"],
    &["volt", "V", "volts"],
    &["ampere", "A", "amp", "amps", "amperes"],
    &["ohm", "ohms", "Ω"],
    &["coulomb", "coulombs"],
    &["tesla", "T", "teslas"],
    &["henry", "H", "henries"],
    &["farad", "F", "farads"],
    &["kelvin", "K", "kelvins"],
    &["mole", "mol", "moles"],
    &["parsec", "pc", "parsecs"],
    &["radian", "rad", "radians"],
    &["degree", "deg", "degrees"],
    &["percent", "percents", "percentage", "pct", "%"],
    &["dollar", "dollars", "USD", "usd", "bucks"],
    &["cent", "cents", "¢"],
    &["euro", "euros", "EUR", "€"],
    &["yuan", "yuans", "RMB"],
    &["yen"],
    &["rupee", "rupees", "Rs"],
    &["penny", "pennies"],
    &["bit", "bits"],
    &["byte", "bytes"],
];

/// The canonical name of a unit word. One-letter words only count when `single_letters`.
pub(crate) fn unit_named(word: &str, single_letters: bool) -> Option<&'static str> {
    if word.is_empty() || (word.len() == 1 && !single_letters) {
        return None;
    }
    let find = |word: &str| {
        UNITS
            .iter()
            .find(|names| names.contains(&word))
            .and_then(|names| names.first())
            .copied()
    };
    find(word).or_else(|| {
        // Spelled-out words in any case ("Dollars"); symbols keep theirs (mm is not Mm).
        (word.len() > 3 && word.bytes().any(|b| b.is_ascii_uppercase()))
            .then(|| find(&word.to_ascii_lowercase()))
            .flatten()
    })
}

/// Reads the words of a text macro as a unit: `square centimeters`, `km/h`, `ft`, `miles per hour`.
///
/// Returns `None` when the text is no unit-like noun phrase at all (too many words, or signs).
pub(crate) fn read_unit(text: &str, unit: &mut Unit, mut sign: i8) -> Option<()> {
    let mut power = 1i8;
    let mut words = 0;
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([' ', '~', '\n', '\t', '.', '-', '·', '\u{a0}']);
        let Some(first) = rest.chars().next() else {
            break;
        };
        match first {
            '/' => {
                sign = -sign;
                rest = &rest[1..];
                continue;
            }
            '(' | ')' | '{' | '}' => {
                rest = &rest[1..];
                continue;
            }
            '\\' => {
                // Layout inside the text: `\,` or `\ `.
                rest = rest.get(2..).unwrap_or_default();
                continue;
            }
            _ => {}
        }
        let length = rest
            .find(|c: char| !(c.is_alphabetic() || matches!(c, '%' | '¢' | '€')))
            .unwrap_or(rest.len());
        if length == 0 {
            return None;
        }
        let word = &rest[..length];
        rest = &rest[length..];
        words += 1;
        if words > 4 {
            return None;
        }
        match word {
            "per" => sign = -1,
            "square" | "sq" | "squared" | "Square" if word != "squared" => power = 2,
            "cubic" | "cu" | "Cubic" => power = 3,
            "of" | "the" | "a" | "in" if words > 1 || word != "in" => unit.recognised = false,
            "mph" => {
                unit.multiply("mile", sign);
                unit.multiply("hour", -sign);
            }
            "kph" | "kmph" | "kmh" => {
                unit.multiply("kilometer", sign);
                unit.multiply("hour", -sign);
            }
            _ => {
                let mut exponent = power;
                let after = rest.trim_start_matches(['^', '{']);
                if after.len() < rest.len() || rest.starts_with(['²', '³', '2', '3']) {
                    let (negative, digits) = after
                        .strip_prefix('-')
                        .map_or((false, after), |digits| (true, digits));
                    if let Some(digit) = digits.chars().next().and_then(|c| match c {
                        '²' => Some(2),
                        '³' => Some(3),
                        c => c.to_digit(10),
                    }) {
                        exponent *= if negative {
                            -(digit as i8)
                        } else {
                            digit as i8
                        };
                        rest = digits
                            .get(digits.chars().next().map_or(0, char::len_utf8)..)
                            .unwrap_or_default();
                        rest = rest.trim_start_matches('}');
                    }
                }
                match unit_named(word, true) {
                    Some(name) => unit.multiply(name, exponent * sign),
                    None => unit.recognised = false,
                }
                power = 1;
            }
        }
    }
    (words > 0).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(text: &str) -> Unit {
        let mut unit = Unit::one();
        read_unit(text, &mut unit, 1).unwrap();
        unit
    }

    #[test]
    fn words_and_symbols_mean_the_same() {
        assert_eq!(unit("cm^2"), unit("square centimeters"));
        assert_eq!(unit("miles per hour"), unit("mph"));
        assert_eq!(unit(" km/h "), unit("kilometers per hour"));
        assert!(unit("m").contradicts(&unit("cm")));
        assert!(unit("Dollars") == unit("dollars"));
    }

    #[test]
    fn unknown_words_contradict_nothing() {
        assert!(!unit("apples").contradicts(&unit("cm")));
        assert!(!unit("square units").recognised);
    }
}
