//! Curves of simulated schedules as SVG: accuracy and hint rate of every round, efficiency of every epoch.

use crate::plots::{GRID, INK, PANEL_HEIGHT, WIDTH};
use anyhow::anyhow;
use plotters::prelude::*;
use seele_hint::simulation::{EpochReport, Report, Settings};
use std::path::Path;

/// Okabe and Ito's palette without yellow, told apart with any kind of colour vision; grey for an eighth.
const PALETTE: [RGBColor; 8] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 0, 0),
    RGBColor(230, 159, 0),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(150, 150, 150),
    RGBColor(0, 158, 115),
];
const HEADING_HEIGHT: u32 = 72;

/// One coordinate system: a share in `0..=1` over epochs.
struct Panel {
    title: String,
    /// `[schedule, point]`: (epoch, share).
    curves: Vec<Vec<(f64, f64)>>,
    target: Option<f64>,
}

/// Draws means over seeds; reports of a schedule are neighbours.
///
/// # Errors
/// If the file cannot be written.
pub(super) fn draw(path: &Path, reports: &[Report], settings: Settings) -> anyhow::Result<()> {
    let schedules: Vec<&[Report]> = reports
        .chunk_by(|one, other| one.schedule == other.schedule)
        .collect();
    let panels = [
        Panel {
            title: "true accuracy of each round".into(),
            curves: schedules
                .iter()
                .map(|reports| rounds(reports, |e| &e.round_accuracy))
                .collect(),
            target: Some(settings.target),
        },
        Panel {
            title: "hint rate of each round".into(),
            curves: schedules
                .iter()
                .map(|reports| rounds(reports, |e| &e.round_rate))
                .collect(),
            target: None,
        },
        Panel {
            title: "learning efficiency of each epoch".into(),
            curves: schedules.iter().map(|reports| epochs(reports)).collect(),
            target: None,
        },
    ];
    let names: Vec<&str> = schedules
        .iter()
        .filter_map(|reports| reports.first())
        .map(|report| report.schedule.as_str())
        .collect();
    let title = format!(
        "hint schedules, population {}, {} x {} rollouts",
        settings.population.name(),
        settings.rounds,
        settings.rollouts
    );
    let mut svg = String::new();
    render(&mut svg, &title, &names, &panels)
        .map_err(|error| anyhow!("cannot draw the curves: {error}"))?;
    // Drawn in memory first: no half-written picture.
    std::fs::write(path, svg)
        .map_err(|error| anyhow!("cannot write the curves to `{}`: {error}", path.display()))
}

/// Points of all rounds of all epochs, an epoch one unit wide.
fn rounds(reports: &[Report], figure: impl Fn(&EpochReport) -> &Vec<f64>) -> Vec<(f64, f64)> {
    let Some(first) = reports.first() else {
        return Vec::new();
    };
    let mut points = Vec::new();
    for (epoch, figures) in first.epochs.iter().enumerate() {
        let count = figure(figures).len();
        for round in 0..count {
            let values = reports
                .iter()
                .map(|report| figure(&report.epochs[epoch])[round]);
            let share = values.sum::<f64>() / reports.len() as f64;
            points.push((epoch as f64 + (round as f64 + 0.5) / count as f64, share));
        }
    }
    points
}

fn epochs(reports: &[Report]) -> Vec<(f64, f64)> {
    let Some(first) = reports.first() else {
        return Vec::new();
    };
    let mean = |epoch: usize| {
        let values = reports.iter().map(|report| report.epochs[epoch].efficiency);
        values.sum::<f64>() / reports.len() as f64
    };
    (0..first.epochs.len())
        .map(|epoch| (epoch as f64 + 0.5, mean(epoch)))
        .collect()
}

type Failure = Box<dyn std::error::Error>;

fn render(svg: &mut String, title: &str, names: &[&str], panels: &[Panel]) -> Result<(), Failure> {
    let height = HEADING_HEIGHT + PANEL_HEIGHT * panels.len() as u32;
    let root = SVGBackend::with_string(svg, (WIDTH, height)).into_drawing_area();
    root.fill(&WHITE)?;
    root.draw(&Text::new(
        title.to_string(),
        (16, 14),
        ("sans-serif", 20).into_font().color(&INK),
    ))?;
    // The legend: a line of names in the colours of their curves.
    for (index, (name, color)) in names.iter().zip(PALETTE.iter().cycle()).enumerate() {
        let left = 16 + 112 * index as i32;
        root.draw(&PathElement::new(
            vec![(left, 54), (left + 16, 54)],
            color.stroke_width(3),
        ))?;
        let style = ("sans-serif", 14).into_font().color(&INK);
        root.draw(&Text::new((*name).to_string(), (left + 21, 47), style))?;
    }
    let (_, body) = root.split_vertically(HEADING_HEIGHT);
    let epochs = panels
        .iter()
        .flat_map(|panel| panel.curves.iter().flatten());
    let last = epochs.fold(1.0, |last: f64, point| last.max(point.0.ceil()));
    for (area, panel) in body.split_evenly((panels.len(), 1)).iter().zip(panels) {
        let mut chart = ChartBuilder::on(area)
            .caption(&panel.title, ("sans-serif", 16).into_font().color(&INK))
            .margin_top(10)
            .margin_left(8)
            .margin_right(24)
            .x_label_area_size(40)
            .y_label_area_size(44)
            .build_cartesian_2d(0.0..last, 0.0..1.0)?;
        chart
            .configure_mesh()
            .bold_line_style(GRID)
            .light_line_style(TRANSPARENT)
            .axis_style(INK)
            .label_style(("sans-serif", 14).into_font().color(&INK))
            .x_desc("epochs")
            .x_labels(last as usize + 1)
            .y_labels(6)
            .x_label_formatter(&|epoch| format!("{epoch:.0}"))
            .y_label_formatter(&|share| format!("{share:.1}"))
            .draw()?;
        if let Some(target) = panel.target {
            let ends = [(0.0, target), (last, target)];
            chart.draw_series(DashedLineSeries::new(ends, 7, 5, INK.stroke_width(1)))?;
        }
        for (points, color) in panel.curves.iter().zip(PALETTE.iter().cycle()) {
            chart.draw_series(LineSeries::new(
                points.iter().copied(),
                color.stroke_width(2),
            ))?;
            let dots = points
                .iter()
                .map(|&point| Circle::new(point, 2, color.filled()));
            chart.draw_series(dots)?;
        }
    }
    root.present()?;
    Ok(())
}
