use seele_hint::*;
fn main() {
    let text = std::fs::read_to_string("/work/shared/golden/irt_fits.json").unwrap();
    let v: serde_json::Value = serde_json::from_str(&text).unwrap();
    let sets: Vec<FitSet> = v["cases"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| {
            let o: Vec<_> = c["observations"]
                .as_array()
                .unwrap()
                .iter()
                .map(|r| Observation {
                    rate: r["p"].as_f64().unwrap(),
                    accuracy: r["accuracy"].as_f64().unwrap(),
                    rollouts: 8,
                })
                .collect();
            FitSet::new(&o, &[], FitSetOptions::default()).unwrap()
        })
        .collect();
    let l = LeastSquares::default();
    for _ in 0..3 {
        let t = std::time::Instant::now();
        let mut s = 0.0;
        let n = 20;
        for _ in 0..n {
            for x in &sets {
                s += l.fit(x).curve.k;
            }
        }
        let dt = t.elapsed().as_secs_f64();
        println!("{:.0} fits/s  {s}", (n * sets.len()) as f64 / dt);
    }
    // robustness: random cases vs dense multi-start
    let mut z: u64 = std::env::args().nth(2).map_or(1, |s| s.parse().unwrap());
    let mut u = || {
        z = seele_random::mix(z);
        (z >> 11) as f64 / (1u64 << 53) as f64
    };
    let mut bad = 0;
    let cases: usize = std::env::args().nth(1).map_or(300, |s| s.parse().unwrap());
    for case in 0..cases {
        let m = 1 + (u() * 8.0) as usize;
        let style = (u() * 4.0) as usize;
        let n = [1.0, 4.0, 8.0, 8.0, 16.0][(u() * 5.0) as usize];
        let cu = Curve {
            k: 0.1 + 50.0 * u() * u(),
            mu: -1.2 * u(),
            b: 0.5 * u() * u(),
        };
        let base = u();
        let o: Vec<_> = (0..m)
            .map(|_| {
                let r = match style {
                    0 => u(),
                    1 => (base + 0.1 * (u() - 0.5)).clamp(0.0, 1.0),
                    2 => (u() * 5.0).round() / 5.0,
                    _ => u(),
                };
                let a = if style == 3 { u() } else { cu.accuracy(r) };
                let s = (0..n as usize).filter(|_| u() < a).count() as f64;
                Observation {
                    rate: r,
                    accuracy: s / n,
                    rollouts: n as u32,
                }
            })
            .collect();
        let set = FitSet::new(&o, &[], FitSetOptions::default()).unwrap();
        let f = l.fit(&set);
        let (best, bk, bm) = brute(set.points());
        if f.sse > best + 1e-6 {
            bad += 1;
            println!(
                "{case} sse {} best {} at k {bk} mu {bm} diff {:.2e} {:?} {:?}",
                f.sse,
                best,
                f.sse - best,
                f.curve,
                set.points()
                    .iter()
                    .map(|p| (p.rate, p.accuracy, p.weight))
                    .collect::<Vec<_>>()
            );
        }
    }
    println!("bad {bad} of {cases}");
}
// dense scan in f64, then pattern search from the best 40 cells
fn obj(points: &[Point], k: f64, mu: f64) -> f64 {
    let (mut a, mut b, mut d) = (0.0, 0.0, 0.0);
    for p in points {
        let u = 1.0 / (1.0 + (k * (p.rate + mu)).exp());
        let e = 1.0 - p.accuracy;
        a += p.weight * u * e;
        b += p.weight * u * u;
        d += p.weight * e * e;
    }
    let c = if b > 0.0 {
        (a / b).clamp(0.05, 1.0)
    } else {
        1.0
    };
    d + c * (c * b - 2.0 * a)
}
fn brute(points: &[Point]) -> (f64, f64, f64) {
    let nk = 70;
    let nm = 600;
    let ks: Vec<f64> = (0..nk)
        .map(|i| 0.1 * 500f64.powf(i as f64 / (nk - 1) as f64))
        .collect();
    let ms: Vec<f64> = (0..nm)
        .map(|j| -2.0 + 4.0 * j as f64 / (nm - 1) as f64)
        .collect();
    let g: Vec<Vec<f64>> = ks
        .iter()
        .map(|&k| ms.iter().map(|&m| obj(points, k, m)).collect())
        .collect();
    let mut mins = vec![];
    for i in 0..nk {
        for j in 0..nm {
            let v = g[i][j];
            if (i == 0 || g[i - 1][j] >= v)
                && (i + 1 == nk || g[i + 1][j] >= v)
                && (j == 0 || g[i][j - 1] >= v)
                && (j + 1 == nm || g[i][j + 1] >= v)
            {
                mins.push((v, i, j));
            }
        }
    }
    mins.sort_by(|a, b| a.0.total_cmp(&b.0));
    mins.truncate(40);
    let mut best = (f64::INFINITY, 0.0, 0.0);
    for (_, i, j) in mins {
        let (mut k, mut m) = (ks[i], ms[j]);
        let mut v = obj(points, k, m);
        let (mut sk, mut sm) = (0.1, 0.01);
        for _ in 0..400 {
            let mut moved = false;
            for (dk, dm) in [
                (1.0, 0.0),
                (-1.0, 0.0),
                (0.0, 1.0),
                (0.0, -1.0),
                (1.0, 1.0),
                (-1.0, -1.0),
                (1.0, -1.0),
                (-1.0, 1.0),
            ] {
                let k2 = (k * (1.0 + sk * dk)).clamp(0.1, 50.0);
                let m2 = (m + sm * dm as f64).clamp(-2.0, 2.0);
                let v2 = obj(points, k2, m2);
                if v2 < v {
                    k = k2;
                    m = m2;
                    v = v2;
                    moved = true;
                }
            }
            if moved {
                sk *= 1.3;
                sm *= 1.3;
            } else {
                sk *= 0.5;
                sm *= 0.5;
            }
            if sk < 1e-9 {
                break;
            }
        }
        if v < best.0 {
            best = (v, k, m);
        }
    }
    best
}
