use seele_hint::simulation::*;
fn main() {
    let a: Vec<String> = std::env::args().skip(1).collect();
    let name = &a[0];
    let seeds: Vec<u64> = a[1].split(',').map(|s| s.parse().unwrap()).collect();
    let pop = PopulationKind::ALL
        .into_iter()
        .find(|p| p.name() == a[2])
        .unwrap();
    let rounds: u32 = a[3].parse().unwrap();
    let n: u32 = a[4].parse().unwrap();
    let t: f64 = a[5].parse().unwrap();
    let st = Settings {
        population: pop,
        rounds,
        rollouts: n,
        target: t,
    };
    let t0 = std::time::Instant::now();
    let rs: Vec<Report> = seeds
        .iter()
        .map(|&s| simulate(&Simulated::by_name(name).unwrap(), st, s).unwrap())
        .collect();
    let m = |f: &dyn Fn(&Report) -> f64| rs.iter().map(f).sum::<f64>() / rs.len() as f64;
    println!(
        "{name} {} t{t} {rounds}x{n}: eff {:.4} all {:.4} first {:.4} mad {:.4} zr {:.4} zg {:.4} acc {:.4} accall {:.4} last {:.4}  [{:.1}s] per seed {:?}",
        pop.name(),
        m(&|r| r.steady(|e| e.efficiency)),
        m(&|r| r.overall(|e| e.efficiency)),
        m(&|r| r.first(|e| e.efficiency)),
        m(&|r| r.steady(|e| e.deviation)),
        m(&|r| r.steady(|e| e.uniform_rounds)),
        m(&|r| r.steady(|e| e.uniform_groups)),
        m(&|r| r.steady(|e| e.accuracy())),
        m(&|r| r.overall(|e| e.accuracy())),
        m(&|r| *r.epochs[4].round_accuracy.last().unwrap()),
        t0.elapsed().as_secs_f64(),
        rs.iter()
            .map(|r| (r.steady(|e| e.efficiency) * 1e4).round() / 1e4)
            .collect::<Vec<_>>()
    );
}
