//! Charts as SVG, for the benchmarks and for tests: mid-tone colours on no background, and text that follows the reader's light or dark
//! mode.

use std::fmt::Write;

const STYLE: &str = "<style>\
    text{font:13px system-ui,sans-serif;fill:#777}.dim{fill:#888}.title{font-weight:600;font-size:15px}\
    .ours{fill:#3b82c4}.peer{fill:#8a94a6}.bare{fill:#c0914d}.line{stroke:#3b82c4;fill:none;stroke-width:2}\
    .grid{stroke:#888;stroke-opacity:.3}.ours-line{stroke:#3b82c4;fill:none;stroke-width:1.6}\
    .bare-line{stroke:#c0914d;fill:none;stroke-width:1.6}.peer-area{fill:#8a94a6;fill-opacity:.35}\
    .ours-area{fill:#3b82c4;fill-opacity:.75}.bare-area{fill:#c0914d;fill-opacity:.4}\
    @media(prefers-color-scheme:light){text{fill:#333}.dim{fill:#666}}\
    @media(prefers-color-scheme:dark){text{fill:#ddd}.dim{fill:#aaa}}</style>";

/// Styles that only [`curves`] needs, so that other pictures stay unchanged.
const CURVES_STYLE: &str = "<style>.peer-line{stroke:#8a94a6;fill:none;stroke-width:1.6}\
    .more{fill:#4f9d69}.more-line{stroke:#4f9d69;fill:none;stroke-width:1.6}</style>";

pub struct Bar {
    pub name: String,
    pub value: f64,
    pub class: &'static str,
}

/// Formats a number with three digits and with separators between thousands.
pub fn number(value: f64) -> String {
    let text = match value.abs() {
        _ if !value.is_finite() => return "–".to_owned(),
        0.0 => return "0".to_owned(),
        abs if abs.fract() == 0.0 => format!("{value:.0}"),
        abs if abs >= 100.0 => format!("{value:.0}"),
        abs if abs >= 10.0 => format!("{value:.1}"),
        abs if abs >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    };
    let (whole, rest) =
        text.split_once('.').map_or((&*text, String::new()), |(whole, rest)| (whole, format!(".{rest}")));
    let mut grouped = String::new();
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at).is_multiple_of(3) && digit.is_ascii_digit() && !grouped.ends_with('-')
        {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped + &rest
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn begin(width: f64, height: f64, title: &str, unit: &str) -> String {
    let mut svg = String::new();
    let _ = write!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" role=\"img\">{STYLE}\
         <text class=\"title\" x=\"10\" y=\"22\">{}</text><text class=\"dim\" x=\"10\" y=\"40\">{}</text>",
        escape(title),
        escape(unit)
    );
    svg
}

/// Draws bars in the order given, on a linear scale from zero. A bare limit far beyond all others is cut off, with an arrow.
pub fn bars(title: &str, unit: &str, bars: &[Bar]) -> String {
    const ROW: f64 = 22.0;
    const LEFT: f64 = 210.0;
    const WIDTH: f64 = 760.0;
    let height = 56.0 + bars.len() as f64 * ROW;
    let longest_of = |is_counted: fn(&Bar) -> bool| {
        bars.iter().filter(|bar| is_counted(bar)).map(|bar| bar.value).fold(0.0, f64::max)
    };
    let (all, not_bare) = (longest_of(|_| true), longest_of(|bar| bar.class != "bare"));
    let longest = if not_bare > 0.0 { all.min(1.5 * not_bare) } else { all };
    let mut svg = begin(WIDTH, height, title, unit);
    for (row, bar) in bars.iter().enumerate() {
        let y = 50.0 + row as f64 * ROW;
        let length =
            if longest > 0.0 { (bar.value / longest).min(1.0) * (WIDTH - LEFT - 110.0) } else { 0.0 };
        let _ = write!(
            svg,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>\
             <rect class=\"{}\" x=\"{LEFT}\" y=\"{y}\" width=\"{:.1}\" height=\"{}\" rx=\"2\"/>\
             <text class=\"dim\" x=\"{:.1}\" y=\"{}\">{}</text>",
            LEFT - 8.0,
            y + 13.0,
            escape(&bar.name),
            bar.class,
            length.max(1.0),
            ROW - 6.0,
            LEFT + length + 6.0,
            y + 13.0,
            if bar.value > longest { format!("→ {}", number(bar.value)) } else { number(bar.value) }
        );
    }
    svg + "</svg>\n"
}

/// Draws a line over a logarithmic axis. Heights are linear, from zero.
pub fn line(title: &str, unit: &str, axis: &str, points: &[(f64, f64)]) -> String {
    const WIDTH: f64 = 760.0;
    const HEIGHT: f64 = 340.0;
    const LEFT: f64 = 80.0;
    const RIGHT: f64 = 710.0;
    const TOP: f64 = 56.0;
    const BOTTOM: f64 = 290.0;
    let mut svg = begin(WIDTH, HEIGHT, title, unit);
    let highest = points.iter().map(|point| point.1).fold(0.0, f64::max);
    let (Some(first), Some(last)) = (points.first(), points.last()) else { return svg + "</svg>\n" };
    let top = nice_above(highest);
    let span = (last.0 / first.0).log2().max(f64::MIN_POSITIVE);
    let x = |value: f64| LEFT + (value / first.0).log2() / span * (RIGHT - LEFT);
    let y = |value: f64| BOTTOM - value / top * (BOTTOM - TOP);
    for step in 0..=4 {
        let value = top * f64::from(step) / 4.0;
        let _ = write!(
            svg,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{RIGHT}\" y1=\"{0:.1}\" y2=\"{0:.1}\"/>\
             <text class=\"dim\" x=\"{1}\" y=\"{2:.1}\" text-anchor=\"end\">{3}</text>",
            y(value),
            LEFT - 8.0,
            y(value) + 4.0,
            number(value)
        );
    }
    let every = points.len().div_ceil(9);
    let mut path = String::new();
    for (at, point) in points.iter().enumerate() {
        let _ = write!(path, "{}{:.1},{:.1}", if at == 0 { "M" } else { "L" }, x(point.0), y(point.1));
        let _ = write!(
            svg,
            "<circle class=\"ours\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"3.5\"/>",
            x(point.0),
            y(point.1)
        );
        if at % every == 0 {
            let _ = write!(
                svg,
                "<text class=\"dim\" x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
                x(point.0),
                BOTTOM + 20.0,
                number(point.0)
            );
        }
    }
    let _ = write!(
        svg,
        "<path class=\"line\" d=\"{path}\"/><text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
        (LEFT + RIGHT) / 2.0,
        HEIGHT - 8.0,
        escape(axis)
    );
    svg + "</svg>\n"
}

/// The labels along the bottom of a chart.
#[derive(Debug, Clone, Copy)]
pub struct Axis<'a> {
    pub name: &'a str,
    pub is_logarithmic: bool,
}

/// A line through points, whose abscissas ascend.
#[derive(Debug, Clone, Copy)]
pub struct Curve<'a> {
    pub name: &'a str,
    /// `ours`, `bare`, `peer` or `more`.
    pub class: &'a str,
    pub points: &'a [(f64, f64)],
}

/// Draws curves over one axis. Heights are linear, and zero is in the picture.
pub fn curves(title: &str, unit: &str, axis: Axis<'_>, curves: &[Curve<'_>]) -> String {
    const WIDTH: f64 = 760.0;
    const HEIGHT: f64 = 360.0;
    const LEFT: f64 = 80.0;
    const RIGHT: f64 = 720.0;
    const TOP: f64 = 76.0;
    const BOTTOM: f64 = 310.0;
    let mut svg = begin(WIDTH, HEIGHT, title, unit) + CURVES_STYLE;
    let points = || curves.iter().flat_map(|curve| curve.points);
    let mut abscissas: Vec<f64> = points().map(|point| point.0).collect();
    abscissas.sort_by(f64::total_cmp);
    abscissas.dedup();
    let (Some(&first), Some(&last)) = (abscissas.first(), abscissas.last()) else { return svg + "</svg>\n" };
    let scale = |value: f64| if axis.is_logarithmic { (value / first).log2() } else { value - first };
    let span = scale(last).max(f64::MIN_POSITIVE);
    let x = |value: f64| LEFT + scale(value) / span * (RIGHT - LEFT);
    let highest = points().map(|point| point.1).fold(0.0, f64::max);
    let lowest = points().map(|point| point.1).fold(0.0, f64::min);
    // Lines of the grid are steps of one size above and below zero.
    let step = nice_above(highest.max(-lowest)) / 4.0;
    let (above, below) = ((highest / step).ceil().max(1.0), (-lowest / step).ceil());
    let y = |value: f64| TOP + (above * step - value) / ((above + below) * step) * (BOTTOM - TOP);
    for line in -(below as i32)..=above as i32 {
        let value = f64::from(line) * step;
        let _ = write!(
            svg,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{RIGHT}\" y1=\"{0:.1}\" y2=\"{0:.1}\"/>\
             <text class=\"dim\" x=\"{1}\" y=\"{2:.1}\" text-anchor=\"end\">{3}</text>",
            y(value),
            LEFT - 8.0,
            y(value) + 4.0,
            number(value)
        );
    }
    let every = abscissas.len().div_ceil(12);
    for value in abscissas.iter().step_by(every) {
        let _ = write!(
            svg,
            "<text class=\"dim\" x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            x(*value),
            BOTTOM + 18.0,
            number(*value)
        );
    }
    let mut legend = LEFT;
    for Curve { name, class, points } in curves {
        let mut path = String::new();
        for (at, point) in points.iter().enumerate() {
            let (x, y) = (x(point.0), y(point.1));
            let _ = write!(path, "{}{x:.1},{y:.1}", if at == 0 { "M" } else { "L" });
            if points.len() <= 30 {
                let _ = write!(svg, "<circle class=\"{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\"/>");
            }
        }
        let _ = write!(
            svg,
            "<path class=\"{class}-line\" d=\"{path}\"/><path class=\"{class}-line\" d=\"M{legend:.1},56h14\"/>\
             <text x=\"{:.1}\" y=\"60\">{}</text>",
            legend + 19.0,
            escape(name)
        );
        legend += 40.0 + name.chars().count() as f64 * 7.2;
    }
    let _ = write!(
        svg,
        "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
        (LEFT + RIGHT) / 2.0,
        HEIGHT - 8.0,
        escape(axis.name)
    );
    svg + "</svg>\n"
}

/// Values over a day, one for each of equal steps of time.
pub struct Series<'a> {
    pub name: &'a str,
    /// `ours-line`, `bare-line`, or an area: `peer-area`, `ours-area`, `bare-area`.
    pub class: &'static str,
    pub values: &'a [f64],
}

/// The contents of one panel.
pub struct Panel<'a> {
    pub unit: &'a str,
    pub series: &'a [Series<'a>],
}

/// Draws panels below each other that share the hours of a day. Notes are an hour and what happens then.
pub fn day(title: &str, panels: &[Panel<'_>], notes: &[(f64, &str)]) -> String {
    const WIDTH: f64 = 760.0;
    const LEFT: f64 = 80.0;
    const RIGHT: f64 = 735.0;
    const HEAD: f64 = 34.0;
    const PLOT: f64 = 170.0;
    const EACH: f64 = 240.0;
    let height = HEAD + panels.len() as f64 * EACH;
    let mut svg = begin(WIDTH, height, title, "");
    let x = |hour: f64| LEFT + hour / 24.0 * (RIGHT - LEFT);
    for (row, Panel { unit, series }) in panels.iter().enumerate() {
        let top = HEAD + 30.0 + row as f64 * EACH;
        let bottom = top + PLOT;
        let values = series.iter().flat_map(|series| series.values);
        let highest = nice_above(values.copied().fold(0.0, f64::max));
        let y = |value: f64| bottom - value / highest * PLOT;
        let _ = write!(svg, "<text class=\"dim\" x=\"10\" y=\"{:.1}\">{}</text>", top - 14.0, escape(unit));
        for step in 0..=4 {
            let value = highest * f64::from(step) / 4.0;
            let _ = write!(
                svg,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{RIGHT}\" y1=\"{0:.1}\" y2=\"{0:.1}\"/>\
                 <text class=\"dim\" x=\"{1}\" y=\"{2:.1}\" text-anchor=\"end\">{3}</text>",
                y(value),
                LEFT - 8.0,
                y(value) + 4.0,
                number(value)
            );
        }
        // From the right: a name takes about 7 units a letter.
        let mut legend = RIGHT;
        for Series { name, class, values } in series.iter().rev() {
            legend -= name.chars().count() as f64 * 7.5;
            let mark = if class.ends_with("-line") { "h14" } else { "v4h14v-8h-14z" };
            let _ = write!(
                svg,
                "<text x=\"{legend:.1}\" y=\"{:.1}\">{}</text><path class=\"{class}\" d=\"M{:.1},{:.1}{mark}\"/>",
                top - 14.0,
                escape(name),
                legend - 19.0,
                top - 18.0
            );
            legend -= 38.0;
            let hour = |at: usize| 24.0 * at as f64 / values.len() as f64;
            let mut path = format!("M{:.1},{:.1}", x(0.0), y(values.first().copied().unwrap_or(0.0)));
            for (at, pair) in (1..).zip(values.windows(2)).filter(|(_, pair)| pair[0] != pair[1]) {
                let _ = write!(path, "H{:.1}V{:.1}", x(hour(at)), y(pair[1]));
            }
            let _ = write!(path, "H{RIGHT}");
            if class.ends_with("-area") {
                let _ = write!(path, "V{bottom}H{LEFT}Z");
            }
            let _ = write!(svg, "<path class=\"{class}\" d=\"{path}\"/>");
        }
        for hour in (0..=24).step_by(3) {
            let _ = write!(
                svg,
                "<text class=\"dim\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{hour}:00</text>",
                x(f64::from(hour)),
                bottom + 18.0
            );
        }
    }
    for (hour, what) in notes {
        let _ = write!(
            svg,
            "<text class=\"dim\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            x(*hour),
            HEAD + 44.0,
            escape(what)
        );
    }
    svg + "</svg>\n"
}

/// Returns the smallest of 1, 2, 3, 4, 5, 6, 8 times a power of ten that is not below a value.
fn nice_above(value: f64) -> f64 {
    if value <= 0.0 {
        return 1.0;
    }
    let power = 10f64.powf(value.log10().floor());
    [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0]
        .into_iter()
        .map(|step| step * power)
        .find(|step| *step >= value)
        .unwrap_or(value)
}
