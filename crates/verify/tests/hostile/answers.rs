//! Answers made to exhaust a checker: deep, long, or huge in value. Shared by the test and the benchmark.

/// The golds every hostile answer is compared with; none of them is right.
pub(crate) const GOLDS: [&str; 5] = ["42", "(x+1)^{3}", "\\{1,2,3\\}", "x^2+y^2=1", "(0,\\infty)"];

/// The answers.
pub(crate) fn answers() -> Vec<String> {
    let deep = |open: &str, middle: &str, close: &str, depth: usize| {
        format!("{}{middle}{}", open.repeat(depth), close.repeat(depth))
    };
    vec![
        deep("(", "7", ")", 50_000),
        deep("{", "7", "}", 50_000),
        deep("\\frac{1}{", "2", "}", 20_000),
        deep("\\sqrt{", "2", "}", 20_000),
        deep("\\mathbf{x^{", "2", "}}", 2_000),
        deep("|", "x", "|", 9_000),
        "7^".repeat(5_000) + "7",
        "9^{9^{9^{9}}}".to_owned(),
        "(1000000000)!".to_owned(),
        "\\binom{1000000000}{500000000}".to_owned(),
        "(x+y+z+1)^{40}(x-y+z-1)^{40}".to_owned(),
        "(1+x+y+z)^{12}".to_owned() + &"+(1+x-y)^{9}".repeat(30),
        "\\frac{1}{3^{9999}}".repeat(200),
        (1..400)
            .map(|n| format!("\\sqrt{{{n}}}"))
            .collect::<Vec<_>>()
            .join("+"),
        (1..200)
            .map(|n| format!("\\frac{{{n}}}{{x+{n}}}"))
            .collect::<Vec<_>>()
            .join("+"),
        (1..60)
            .map(|n| format!("\\cos{{({n}^\\circ x)}}"))
            .collect::<Vec<_>>()
            .join("\\cdot "),
        (1..300)
            .map(|n| n.to_string())
            .rev()
            .collect::<Vec<_>>()
            .join(", "),
        "1".repeat(90_000),
        "x".repeat(100_000),
        " ".repeat(1_000_000) + "7",
        "\\left(".repeat(15_000),
        "1,".repeat(9_000),
        "\\sin ".repeat(3_000) + "x",
        "-".repeat(19_000) + "1",
        "\\sum_{k=1}^{64}\\sum_{j=1}^{64}\\sum_{i=1}^{64} k^{j^{i}}".to_owned(),
        "\\int_0^1 ".repeat(60) + "x" + &" dx".repeat(60),
        "e^{".repeat(50) + "x" + &"}".repeat(50),
        "2^{0.1^{0.1^{".to_owned() + &"7".repeat(2_000) + "}}}",
        "\\sin(8i8r884)^{100}".to_owned(),
        "(x888888O888888E8888888+O888888E8888888)^{100}".to_owned(),
        "\\frac{1}{7^{400}+".repeat(30) + "x" + &"}".repeat(30),
        "(\\frac{x}{3}+\\frac{y}{7}+\\frac{z}{11})^{11}".to_owned(),
        "2^{100000}".to_owned() + &"\\cdot 3^{100000}".repeat(40),
        "1e8888888".repeat(20),
        "g{(".repeat(200),
        "x".to_owned() + &"+g{(".repeat(20) + "{(",
        r"(x88888beta8\sqrt 8880888888floor8\ln888888\lmathsf8888loor8\ln888888\ln88WE88888888Abs88888888\lmathsf8888loor8\ln888888\ln888888888888Abs88!888+0)^{100}".to_owned(),
    ]
}
