use seele_verify::*;
fn main() {
    let mut args = std::env::args().skip(1);
    let cmd = args.next().unwrap();
    if cmd == "golds" {
        use std::io::BufRead;
        for line in std::io::stdin().lock().lines() {
            let line = line.unwrap();
            let v: serde_json::Value = serde_json::from_str(&line).unwrap();
            let g = v["answer"].as_str().unwrap();
            if let Err(e) = check_gold(g, &Options::default()) {
                println!("{:?}\t{}\t{}", e, v["id"], g.replace('\n', " "));
            }
        }
    } else if cmd == "cases" {
        use std::io::BufRead;
        let (mut n, mut bad, mut fa) = (0, 0, 0);
        let mut worst = (std::time::Duration::ZERO, String::new());
        let quiet = args.next().is_some();
        for line in std::io::stdin().lock().lines() {
            let line = line.unwrap();
            let v: serde_json::Value = serde_json::from_str(&line).unwrap();
            let (g, p, e) = (
                v["gold"].as_str().unwrap(),
                v["prediction"].as_str().unwrap(),
                v["expected"].as_bool().unwrap(),
            );
            let c = compare_answers(g, p, &Options::default());
            let d = (0..3)
                .map(|_| {
                    let t = std::time::Instant::now();
                    std::hint::black_box(compare_answers(g, p, &Options::default()));
                    t.elapsed()
                })
                .min()
                .unwrap();
            if d > worst.0 {
                worst = (d, format!("{g} <> {p} {c:?}"));
            }
            let back = compare_answers(p, g, &Options::default());
            n += 1;
            if back.verdict.is_correct() != c.verdict.is_correct() {
                println!("ASYMMETRIC {:?} {:?} {g} <> {p}", c, back);
            }
            if c.verdict.is_correct() != e {
                bad += 1;
                if !e {
                    fa += 1;
                }
                if !quiet || !e {
                    println!(
                        "{} {:?} {:?} | {g} <> {p}",
                        if e { "MISS" } else { "FALSE-ACCEPT" },
                        c.verdict,
                        c.reason
                    );
                    println!("     {}", v["kind"]);
                }
            }
        }
        println!(
            "{n} cases, {bad} disagree, {fa} false acceptances; worst {:?} {}",
            worst.0, worst.1
        );
    } else if cmd == "eq" {
        let g = args.next().unwrap();
        for p in args {
            println!(
                "{:?}  {} <> {}",
                compare_answers(&g, &p, &Options::default()),
                g,
                p
            );
        }
    }
}
