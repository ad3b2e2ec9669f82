//! Lines over time, as SVG that a page holds in itself.

use std::fmt::Write as _;

/// Width and height of the plot in its own units; the page scales it.
const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 180.0;
/// Room for the figures at the left and below.
const LEFT: f64 = 56.0;
const BELOW: f64 = 22.0;

/// One line of a plot.
pub(super) struct Line<'a> {
    pub(super) label: &'a str,
    /// The class that gives it its colour.
    pub(super) class: &'a str,
    pub(super) points: Vec<(f64, f64)>,
}

/// A plot of lines from zero up, over seconds.
pub(super) fn plot(title: &str, lines: &[Line<'_>], figure: impl Fn(f64) -> String) -> String {
    let points = || lines.iter().flat_map(|line| line.points.iter());
    let max_x = points().map(|point| point.0).fold(1.0, f64::max);
    let max_y = points().map(|point| point.1).fold(0.0, f64::max).max(1e-9) * 1.1;
    let x = |value: f64| LEFT + value / max_x * (WIDTH - LEFT - 8.0);
    let y = |value: f64| HEIGHT - BELOW - value / max_y * (HEIGHT - BELOW - 8.0);
    let mut out = format!(
        "<figure><figcaption>{title}</figcaption><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{title}\">"
    );
    for part in [0.0, 0.5, 1.0] {
        let at = y(max_y * part);
        let _ = write!(
            out,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{WIDTH}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            LEFT - 6.0,
            at + 4.0,
            figure(max_y * part)
        );
        let _ = write!(
            out,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"{}\">{:.0} s</text>",
            x(max_x * part),
            HEIGHT - 6.0,
            if part == 0.0 { "start" } else { "end" },
            max_x * part
        );
    }
    for line in lines {
        let mut path = String::new();
        for point in &line.points {
            let _ = write!(path, "{:.1},{:.1} ", x(point.0), y(point.1));
        }
        let _ = write!(
            out,
            "<polyline class=\"{}\" points=\"{}\"><title>{}</title></polyline>",
            line.class,
            path.trim_end(),
            line.label
        );
    }
    out.push_str("</svg>");
    for line in lines {
        let _ = write!(
            out,
            "<span class=\"key {}\">{}</span> ",
            line.class, line.label
        );
    }
    out.push_str("</figure>");
    out
}
