//! Unicode signs to the LaTeX that means the same.
use std::borrow::Cow;

/// Rewrites mathematical signs, typographic punctuation and full-width forms to ASCII and LaTeX, and
/// drops invisible characters. ASCII text is returned as it is.
///
/// `33√30` becomes `33\sqrt 30`, `x²` becomes `x^{2}`, `1½` becomes `1\frac{1}{2}`.
pub(crate) fn to_latex(text: &str) -> Cow<'_, str> {
    if text.is_ascii() && !text.as_bytes().contains(&0) {
        return Cow::Borrowed(text);
    }
    let mut latex = String::with_capacity(text.len() + 16);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if let Some(first) = script_digit(c) {
            let superscript = is_superscript(c);
            latex.push_str(if superscript { "^{" } else { "_{" });
            latex.push(first);
            while let Some(next) = chars.peek().copied()
                && let Some(digit) = script_digit(next)
                && is_superscript(next) == superscript
            {
                latex.push(digit);
                chars.next();
            }
            latex.push('}');
        } else if c.is_ascii() {
            if c != '\0' {
                latex.push(c);
            }
        } else if let Some(replacement) = replacement(c) {
            latex.push_str(replacement);
        } else if ('\u{ff01}'..='\u{ff5e}').contains(&c) {
            latex.extend(char::from_u32(c as u32 - 0xfee0));
        } else if !is_invisible(c) {
            latex.push(c);
        }
    }
    Cow::Owned(latex)
}

fn is_superscript(c: char) -> bool {
    matches!(c, '²' | '³' | '¹' | '⁰' | '⁴'..='⁹' | '⁻' | '⁺' | 'ⁿ')
}

fn script_digit(c: char) -> Option<char> {
    Some(match c {
        '⁰' | '₀' => '0',
        '¹' | '₁' => '1',
        '²' | '₂' => '2',
        '³' | '₃' => '3',
        '⁴' | '₄' => '4',
        '⁵' | '₅' => '5',
        '⁶' | '₆' => '6',
        '⁷' | '₇' => '7',
        '⁸' | '₈' => '8',
        '⁹' | '₉' => '9',
        '⁻' | '₋' => '-',
        '⁺' | '₊' => '+',
        'ⁿ' | 'ₙ' => 'n',
        _ => return None,
    })
}

fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}' | '\u{ad}' | '\u{fe0e}' | '\u{fe0f}')
}

fn replacement(c: char) -> Option<&'static str> {
    Some(match c {
        '−' | '–' | '—' | '‐' | '‑' | '‒' | '﹣' => "-",
        '×' | '✕' | '⨯' => r"\times ",
        '·' | '⋅' | '∙' | '•' => r"\cdot ",
        '÷' => r"\div ",
        '∕' | '⁄' => "/",
        '√' => r"\sqrt ",
        '∛' => r"\sqrt[3] ",
        '∜' => r"\sqrt[4] ",
        'π' | '𝜋' => r"\pi ",
        '∞' => r"\infty ",
        '∪' => r"\cup ",
        '∩' => r"\cap ",
        '∖' => r"\setminus ",
        '≤' | '⩽' | '≦' => r"\le ",
        '≥' | '⩾' | '≧' => r"\ge ",
        '≠' => r"\neq ",
        '≈' => r"\approx ",
        '≡' => r"\equiv ",
        '∈' => r"\in ",
        '∉' => r"\notin ",
        '∅' | '⌀' => r"\emptyset ",
        'ℝ' => r"\mathbb{R}",
        'ℤ' => r"\mathbb{Z}",
        'ℕ' => r"\mathbb{N}",
        'ℚ' => r"\mathbb{Q}",
        'ℂ' => r"\mathbb{C}",
        '°' | 'º' | '˚' => r"\degree ",
        '±' => r"\pm ",
        '∓' => r"\mp ",
        '½' => r"\frac{1}{2}",
        '⅓' => r"\frac{1}{3}",
        '⅔' => r"\frac{2}{3}",
        '¼' => r"\frac{1}{4}",
        '¾' => r"\frac{3}{4}",
        '⅕' => r"\frac{1}{5}",
        '⅖' => r"\frac{2}{5}",
        '⅗' => r"\frac{3}{5}",
        '⅘' => r"\frac{4}{5}",
        '⅙' => r"\frac{1}{6}",
        '⅚' => r"\frac{5}{6}",
        '⅐' => r"\frac{1}{7}",
        '⅛' => r"\frac{1}{8}",
        '⅜' => r"\frac{3}{8}",
        '⅝' => r"\frac{5}{8}",
        '⅞' => r"\frac{7}{8}",
        '⅑' => r"\frac{1}{9}",
        '⅒' => r"\frac{1}{10}",
        '\u{a0}' | '\u{2000}'..='\u{200a}' | '\u{202f}' | '\u{205f}' | '\u{3000}' => " ",
        '…' | '⋯' => r"\ldots ",
        '′' | '’' | '‘' => "'",
        '″' => "''",
        '“' | '”' | '„' => "\"",
        '、' => ",",
        '。' => ".",
        '→' | '⟶' => r"\to ",
        '⇒' | '⟹' => r"\Rightarrow ",
        '⇔' => r"\iff ",
        '∧' => r"\land ",
        '∨' => r"\lor ",
        '⌊' => r"\lfloor ",
        '⌋' => r"\rfloor ",
        '⌈' => r"\lceil ",
        '⌉' => r"\rceil ",
        '⟨' | '〈' => r"\langle ",
        '⟩' | '〉' => r"\rangle ",
        '∠' => r"\angle ",
        '△' => r"\triangle ",
        '∑' | 'Σ' => r"\sum ",
        '∏' => r"\prod ",
        '∫' => r"\int ",
        '∂' => r"\partial ",
        '∣' | '│' => "|",
        '∗' => "*",
        '∼' => r"\sim ",
        'α' => r"\alpha ",
        'β' => r"\beta ",
        'γ' => r"\gamma ",
        'δ' => r"\delta ",
        'ε' | 'ϵ' => r"\epsilon ",
        'ζ' => r"\zeta ",
        'η' => r"\eta ",
        'θ' | 'ϑ' => r"\theta ",
        'ι' => r"\iota ",
        'κ' => r"\kappa ",
        'λ' => r"\lambda ",
        'μ' | 'µ' => r"\mu ",
        'ν' => r"\nu ",
        'ξ' => r"\xi ",
        'ρ' => r"\rho ",
        'σ' => r"\sigma ",
        'τ' => r"\tau ",
        'φ' | 'ϕ' => r"\phi ",
        'χ' => r"\chi ",
        'ψ' => r"\psi ",
        'ω' => r"\omega ",
        'Γ' => r"\Gamma ",
        'Δ' => r"\Delta ",
        'Θ' => r"\Theta ",
        'Λ' => r"\Lambda ",
        'Φ' => r"\Phi ",
        'Ψ' => r"\Psi ",
        'Ω' => r"\Omega ",
        'ℓ' => r"\ell ",
        'ℏ' => r"\hbar ",
        '¢' => r"\text{cents}",
        '€' => r"\text{euros}",
        '¥' => r"\text{yen}",
        'Å' => r"\text{angstrom}",
        'ⅈ' => r"\mathrm{i}",
        'ⅇ' => r"\mathrm{e}",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_become_latex() {
        assert_eq!(to_latex("33√30"), r"33\sqrt 30");
        assert_eq!(to_latex("x²³y₁₀"), "x^{23}y_{10}");
        assert_eq!(to_latex("１２３，−１½"), r"123,-1\frac{1}{2}");
        assert_eq!(to_latex("\u{feff}\u{200b}7"), "7");
    }

    #[test]
    fn ascii_is_untouched() {
        assert!(matches!(to_latex(r"\frac{1}{2}"), Cow::Borrowed(_)));
    }
}
