//! Lines over time, as SVG that a page holds in itself.

use std::fmt::Write as _;

/// Width and height of the plot in its own units; the page scales it.
const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 180.0;
/// Room for words at the left, above and below, as large as they are on a phone, where the plot is small and they are not.
const LEFT: f64 = 88.0;
const ABOVE: f64 = 16.0;
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
    let y = |value: f64| HEIGHT - BELOW - value / max_y * (HEIGHT - BELOW - ABOVE);
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
    for line in lines.iter().filter(|line| !line.points.is_empty()) {
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
    for line in lines
        .iter()
        .filter(|line| !line.label.is_empty() && !line.points.is_empty())
    {
        let _ = write!(
            out,
            "<span class=\"key {}\">{}</span> ",
            line.class, line.label
        );
    }
    out.push_str("</figure>");
    out
}

/// How long something took: in the middle, nearly always, and at worst.
pub(super) struct Range<'a> {
    pub(super) label: &'a str,
    pub(super) middle_ns: u64,
    pub(super) high_ns: u64,
    pub(super) longest_ns: u64,
}

/// Height of one row of ranges.
const ROW: f64 = 26.0;

/// Ranges of durations, one below the other, over a scale of powers of ten.
pub(super) fn ranges(title: &str, rows: &[Range<'_>]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let power = |ns: u64| super::html::to_f64(ns.max(1)).log10();
    let low = rows
        .iter()
        .map(|row| power(row.middle_ns).floor())
        .fold(f64::MAX, f64::min);
    let high = rows
        .iter()
        .map(|row| power(row.longest_ns).ceil())
        .fold(low + 1.0, f64::max);
    let x = |power: f64| LEFT + (power - low) / (high - low) * (WIDTH - LEFT - 24.0);
    let height = ROW * super::html::to_f64(rows.len() as u64) + BELOW;
    let mut out = format!(
        "<figure><figcaption>{title}</figcaption><svg id=\"latency\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{title}\">"
    );
    let mut at = low;
    while at <= high {
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a figure for people, from 1 up"
        )]
        let words = super::summary::duration(10f64.powf(at) as u64);
        let _ = write!(
            out,
            "<line class=\"grid\" x1=\"{0:.1}\" x2=\"{0:.1}\" y1=\"0\" y2=\"{1:.1}\"/><text x=\"{0:.1}\" y=\"{2:.1}\" text-anchor=\"middle\">{words}</text>",
            x(at),
            height - BELOW,
            height - 6.0
        );
        at += 1.0;
    }
    for (number, row) in rows.iter().enumerate() {
        let y = ROW * (super::html::to_f64(number as u64) + 0.5);
        let [middle, nearly, longest] =
            [row.middle_ns, row.high_ns, row.longest_ns].map(|ns| x(power(ns)));
        let _ = write!(
            out,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\
             <line class=\"tail\" x1=\"{nearly:.1}\" x2=\"{longest:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
             <line class=\"body\" x1=\"{middle:.1}\" x2=\"{nearly:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>",
            LEFT - 6.0,
            y + 4.0,
            row.label
        );
    }
    out.push_str("</svg></figure>");
    out
}
