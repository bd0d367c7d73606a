//! Curves of a run as SVG: accuracy of each round, hint rate, held-out accuracy, over steps.

use anyhow::anyhow;
use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use seele_train::metrics::MetricsRow;
use std::path::Path;

/// Okabe and Ito's palette, told apart with any kind of colour vision; its yellow is left out
/// because it vanishes on white.
const PALETTE: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(230, 159, 0),
    RGBColor(0, 158, 115),
    RGBColor(213, 94, 0),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(0, 0, 0),
];

pub(crate) const INK: RGBColor = RGBColor(60, 60, 60);
pub(crate) const GRID: RGBColor = RGBColor(225, 225, 225);
pub(crate) const WIDTH: u32 = 920;
pub(crate) const PANEL_HEIGHT: u32 = 300;
const TITLE_HEIGHT: u32 = 44;

/// One line of a panel.
pub(crate) struct Curve {
    pub(crate) label: String,
    pub(crate) points: Vec<(f64, f64)>,
    /// Lines behind it, faint, which it sums up.
    pub(crate) behind: Vec<Vec<(f64, f64)>>,
    /// Draw a running mean over the faint raw values.
    pub(crate) smooth: bool,
}

/// One coordinate system: a share in `0..=1` over steps.
pub(crate) struct Panel {
    pub(crate) title: String,
    pub(crate) curves: Vec<Curve>,
    /// A dashed horizontal line and its label.
    pub(crate) target: Option<f64>,
}

/// Draws the curves of a run to an SVG file; panels without data are left out.
///
/// `title` heads the picture; `target_accuracy` is drawn as a dashed line.
///
/// # Errors
/// If no line of the log is a training step or an evaluation, or the file cannot be written.
pub(crate) fn draw(
    path: &Path,
    title: &str,
    rows: &[MetricsRow],
    target_accuracy: Option<f64>,
) -> anyhow::Result<()> {
    draw_panels(path, title, panels(rows, target_accuracy))
}

/// Draws panels below each other to an SVG file; those without data are left out.
///
/// # Errors
/// If no panel has data, or the file cannot be written.
pub(crate) fn draw_panels(path: &Path, title: &str, panels: Vec<Panel>) -> anyhow::Result<()> {
    let has_data = |panel: &Panel| panel.curves.iter().any(|curve| !curve.points.is_empty());
    let panels: Vec<Panel> = panels.into_iter().filter(has_data).collect();
    if panels.is_empty() {
        return Err(anyhow!(
            "there is nothing to plot: the metrics log has no step"
        ));
    }
    let mut svg = String::new();
    render(&mut svg, title, &panels).map_err(|error| anyhow!("cannot draw the plot: {error}"))?;
    // Drawn in memory first: no half-written picture.
    std::fs::write(path, svg)
        .map_err(|error| anyhow!("cannot write the plot `{}`: {error}", path.display()))
}

fn panels(rows: &[MetricsRow], target: Option<f64>) -> Vec<Panel> {
    let series = |key: &str| -> Vec<(f64, f64)> {
        rows.iter()
            .filter_map(|row| Some((row.step as f64, row.get(key)?)))
            .collect()
    };
    let rounds = rows
        .iter()
        .map(|row| row.round_accuracies().len())
        .max()
        .unwrap_or(0);
    let accuracy = (1..=rounds).map(|round| Curve {
        label: format!("round {round}"),
        points: series(&format!("hint/round_{round}/accuracy")),
        behind: Vec::new(),
        smooth: true,
    });
    let mut sets: Vec<&str> = rows
        .iter()
        .flat_map(|row| row.values.keys())
        .filter_map(|key| key.strip_prefix("eval/")?.strip_suffix("/accuracy"))
        .collect();
    sets.sort_unstable();
    sets.dedup();
    let held_out = sets.iter().map(|set| Curve {
        label: set.to_string(),
        points: series(&format!("eval/{set}/accuracy")),
        behind: Vec::new(),
        smooth: false,
    });
    let hint = Curve {
        label: "all rounds".into(),
        points: series("hint/rate/mean"),
        behind: Vec::new(),
        smooth: true,
    };
    vec![
        Panel {
            title: "accuracy of each round".into(),
            curves: accuracy.collect(),
            target,
        },
        Panel {
            title: "mean hint rate (share of the solution revealed)".into(),
            curves: vec![hint],
            target: None,
        },
        Panel {
            title: "accuracy without hints on held-out problems".into(),
            curves: held_out.collect(),
            target: None,
        },
    ]
}

type Failure = Box<dyn std::error::Error>;

fn render(svg: &mut String, title: &str, panels: &[Panel]) -> Result<(), Failure> {
    let last_step = panels
        .iter()
        .flat_map(|panel| &panel.curves)
        .flat_map(|curve| &curve.points)
        .map(|point| point.0);
    let last_step = last_step.fold(1.0, f64::max);
    let height = TITLE_HEIGHT + PANEL_HEIGHT * panels.len() as u32;
    let root = SVGBackend::with_string(svg, (WIDTH, height)).into_drawing_area();
    root.fill(&WHITE)?;
    let heading = ("sans-serif", 20).into_font().color(&INK);
    root.draw(&Text::new(title.to_string(), (16, 14), heading))?;
    let (_, body) = root.split_vertically(TITLE_HEIGHT);
    // The same in all panels, so that their steps lie below each other.
    let legend = legend_width(panels);
    for (area, panel) in body.split_evenly((panels.len(), 1)).iter().zip(panels) {
        draw_panel(area, panel, last_step, legend)?;
    }
    root.present()?;
    Ok(())
}

fn draw_panel(
    area: &DrawingArea<SVGBackend<'_>, Shift>,
    panel: &Panel,
    last_step: f64,
    legend: u32,
) -> Result<(), Failure> {
    let text = ("sans-serif", 14).into_font().color(&INK);
    let mut chart = ChartBuilder::on(area)
        .caption(&panel.title, ("sans-serif", 16).into_font().color(&INK))
        .margin_top(10)
        .margin_left(8)
        .margin_right(legend)
        .margin_bottom(4)
        .x_label_area_size(40)
        .y_label_area_size(44)
        .build_cartesian_2d(0.0..last_step, 0.0..1.0)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .bold_line_style(GRID)
        .light_line_style(TRANSPARENT)
        .axis_style(INK)
        .label_style(text.clone())
        .x_desc("step")
        .x_labels(9)
        .y_labels(6)
        .x_label_formatter(&|step| format!("{step:.0}"))
        .y_label_formatter(&|share| format!("{share:.1}"))
        .draw()?;
    if let Some(target) = panel.target {
        chart.draw_series(DashedLineSeries::new(
            [(0.0, target), (last_step, target)],
            7,
            5,
            INK.stroke_width(1),
        ))?;
    }
    for (curve, color) in panel.curves.iter().zip(PALETTE.iter().cycle()) {
        let bold = color.stroke_width(2);
        for line in &curve.behind {
            chart.draw_series(LineSeries::new(
                line.iter().copied(),
                color.mix(0.22).stroke_width(1),
            ))?;
        }
        if curve.smooth && curve.points.len() >= 20 {
            chart.draw_series(LineSeries::new(
                curve.points.iter().copied(),
                color.mix(0.22).stroke_width(1),
            ))?;
            chart.draw_series(LineSeries::new(running_mean(&curve.points), bold))?;
        } else {
            chart.draw_series(LineSeries::new(curve.points.iter().copied(), bold))?;
            chart.draw_series(
                curve
                    .points
                    .iter()
                    .map(|&point| Circle::new(point, 3, color.filled())),
            )?;
        }
    }
    draw_legend(area, &chart, panel, last_step, &text)?;
    Ok(())
}

type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// Pixels for the longest label, its value and its line.
fn legend_width(panels: &[Panel]) -> u32 {
    const LINE: usize = 26;
    const CHARACTER: usize = 7;
    const VALUE: usize = " (0.00)".len();
    let labels = panels.iter().flat_map(|panel| &panel.curves);
    let longest = labels.map(|curve| curve.label.chars().count()).max();
    let wanted = LINE + CHARACTER * (longest.unwrap_or(0) + VALUE);
    u32::try_from(wanted).unwrap_or(WIDTH).clamp(140, WIDTH / 2)
}

/// Labels to the right of the plot, each level with the end of its curve, pushed apart where they
/// would overlap.
fn draw_legend(
    area: &DrawingArea<SVGBackend<'_>, Shift>,
    chart: &Chart<'_, '_>,
    panel: &Panel,
    last_step: f64,
    text: &TextStyle<'_>,
) -> Result<(), Failure> {
    const LINE: i32 = 18;
    let (left, top) = area.get_base_pixel();
    let mut labels: Vec<(i32, String, RGBColor)> = Vec::new();
    for (curve, color) in panel.curves.iter().zip(PALETTE.iter().cycle()) {
        let end = if curve.smooth {
            running_mean(&curve.points).last().copied()
        } else {
            curve.points.last().copied()
        };
        if let Some((step, share)) = end {
            let (_, y) = chart.backend_coord(&(step, share));
            labels.push((y - top, format!("{} ({share:.2})", curve.label), *color));
        }
    }
    if let Some(target) = panel.target {
        let (_, y) = chart.backend_coord(&(0.0, target));
        labels.push((y - top, format!("target ({target})"), INK));
    }
    labels.sort_by_key(|label| label.0);
    let places = spread(
        &labels.iter().map(|label| label.0).collect::<Vec<_>>(),
        LINE,
        30,
        PANEL_HEIGHT as i32 - 30,
    );
    let right = chart.backend_coord(&(last_step, 0.0)).0 - left;
    for ((end, label, color), y) in labels.iter().zip(places) {
        let line = vec![(right + 3, *end), (right + 14, y)];
        area.draw(&PathElement::new(line, color.stroke_width(2)))?;
        area.draw(&Text::new(label.clone(), (right + 18, y - 7), text.clone()))?;
    }
    Ok(())
}

/// Moves sorted places as little as possible so that neighbours are `gap` apart, then into
/// `low..=high`.
fn spread(places: &[i32], gap: i32, low: i32, high: i32) -> Vec<i32> {
    // Least squares under an order is isotonic regression: neighbours in conflict share their mean.
    let mut blocks: Vec<(i32, i32)> = Vec::new();
    for (index, place) in places.iter().enumerate() {
        let mut block = (place - gap * index as i32, 1);
        while let Some(&(sum, count)) = blocks.last()
            && sum * block.1 > block.0 * count
        {
            block = (sum + block.0, count + block.1);
            blocks.pop();
        }
        blocks.push(block);
    }
    let means = blocks
        .iter()
        .flat_map(|&(sum, count)| std::iter::repeat_n(sum / count, count as usize));
    let span = gap * (places.len() as i32 - 1);
    means
        .enumerate()
        .map(|(index, mean)| mean.clamp(low, (high - span).max(low)) + gap * index as i32)
        .collect()
}

/// Centred mean over about a twentieth of the points, at least five.
fn running_mean(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let half = (points.len() / 20).max(5) / 2;
    (0..points.len())
        .map(|index| {
            let window = &points[index.saturating_sub(half)..(index + half + 1).min(points.len())];
            (
                points[index].0,
                window.iter().map(|point| point.1).sum::<f64>() / window.len() as f64,
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use seele_train::metrics::{EvalAccuracy, RoundMetrics, StepMetrics};

    /// A made-up run that looks like the real thing.
    fn rows(steps: usize) -> Vec<MetricsRow> {
        let mut rows = vec![MetricsRow {
            step: 0,
            values: [
                ("eval/hard/accuracy".into(), 0.02),
                ("eval/easy/accuracy".into(), 0.97),
            ]
            .into(),
        }];
        for step in 1..=steps {
            let t = step as f64 / steps as f64;
            let noise = |i: usize| 0.08 * ((step * 37 + i * 101) as f64).sin();
            let rounds = (0..4)
                .map(|i| RoundMetrics {
                    accuracy: (0.5 + (0.45 - 0.1 * i as f64) * (-6.0 * t).exp() + noise(i))
                        .clamp(0.0, 1.0),
                    hint_rate: 0.9 - 0.6 * t,
                    ..Default::default()
                })
                .collect();
            let eval = if step % (steps / 4).max(1) == 0 {
                vec![
                    EvalAccuracy {
                        name: "easy".into(),
                        accuracy: 0.97 + 0.02 * t,
                        problems: 64,
                        loss: None,
                    },
                    EvalAccuracy {
                        name: "hard".into(),
                        accuracy: 0.02 + 0.5 * t * t,
                        problems: 64,
                        loss: None,
                    },
                ]
            } else {
                Vec::new()
            };
            let metrics = StepMetrics {
                step,
                rollouts: 32,
                rounds,
                hint_rate_mean: 0.9 - 0.6 * t + 0.3 * noise(9),
                eval,
                ..Default::default()
            };
            rows.push(MetricsRow::from(&metrics));
        }
        rows
    }

    #[test]
    fn the_plot_shows_every_round_the_target_the_hint_rate_and_the_held_out_sets() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hints.svg");
        draw(&path, "quickstart", &rows(120), Some(0.5)).unwrap();
        let svg = std::fs::read_to_string(&path).unwrap();
        for label in [
            "quickstart",
            "round 1",
            "round 4",
            "target (0.5)",
            "mean hint rate",
            "hard (0.52)",
            "easy (0.99)",
        ] {
            assert!(svg.contains(label), "{label} is missing");
        }
        if let Some(copy) = std::env::var_os("SEELE_KEEP_PLOT") {
            std::fs::copy(&path, copy).unwrap();
        }
    }

    #[test]
    fn a_run_of_one_step_without_hints_is_drawn_too() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hints.svg");
        draw(&path, "one", &rows(1)[1..], None).unwrap();
        assert!(std::fs::read_to_string(&path).unwrap().contains("round 4"));
    }

    #[test]
    fn an_empty_log_is_an_error_and_leaves_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hints.svg");
        assert!(draw(&path, "none", &[], None).is_err());
        assert!(!path.exists());
    }

    #[test]
    fn labels_are_pushed_apart_and_stay_inside() {
        assert_eq!(
            spread(&[100, 100, 100, 200], 18, 30, 270),
            [82, 100, 118, 200]
        );
        assert_eq!(spread(&[10, 11, 200], 18, 30, 270), [30, 48, 200]);
        assert_eq!(spread(&[268, 269, 270], 18, 30, 270), [234, 252, 270]);
        assert_eq!(spread(&[], 18, 30, 270), Vec::<i32>::new());
    }
}
