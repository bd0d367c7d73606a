use seele_hint::*;
fn main() {
    let a = std::env::args().nth(1).unwrap();
    let n: Vec<f64> = a
        .replace(['[', ']', '(', ')', ' '], "")
        .split(',')
        .map(|x| x.parse().unwrap())
        .collect();
    let set = FitSet::from_points(
        n.chunks(3)
            .map(|c| Point {
                rate: c[0],
                accuracy: c[1],
                weight: c[2],
            })
            .collect(),
    )
    .unwrap();
    println!("Fit {:?}", LeastSquares::default().fit(&set));
}
