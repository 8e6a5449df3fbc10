//! A run of the demo as a picture: for each second, who answered how many requests.

use std::fmt::Write as _;

/// A second of the run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Second {
    /// Requests that were sent.
    pub(super) asked: u64,
    /// Answers, by backend.
    pub(super) served: [u64; 3],
    /// 429s of backends.
    pub(super) absorbed: u64,
}

/// A whole run.
#[derive(Debug)]
pub(super) struct Run<'r> {
    pub(super) backends: [&'static str; 3],
    /// Requests a second, for how many seconds, and what it shows.
    pub(super) acts: [(u64, u64, &'static str); 3],
    pub(super) seconds: &'r [Second],
    /// All 429s of backends.
    pub(super) absorbed: u64,
    /// Of them, those that callers saw.
    pub(super) visible: u64,
}

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 380.0;
/// The left and right edge of the bars.
const LEFT: f64 = 60.0;
const RIGHT: f64 = 840.0;
/// The upper and lower edge of the bars.
const TOP: f64 = 112.0;
const BOTTOM: f64 = 300.0;

/// Readable on white and on black. The colours can be told apart by people who don't see all of them (Okabe and Ito).
const STYLE: &str = "text{font:13px system-ui,sans-serif;fill:#1f2328}.t{font-size:16px;font-weight:600}.m{fill:#59636e}\
.g{stroke:#d1d9e0}.x{stroke:#59636e;stroke-dasharray:4 4;fill:none}.b0{fill:#0072b2}.b1{fill:#e69f00}.b2{fill:#009e73}.r{fill:#c2410c}\
@media(prefers-color-scheme:dark){text{fill:#f0f6fc}.m{fill:#9198a1}.g{stroke:#3d444d}.x{stroke:#9198a1}.b0{fill:#56b4e9}.b1{fill:#e69f00}\
.b2{fill:#2bc79a}.r{fill:#ff9f6b}}";

/// The picture as SVG.
pub(super) fn svg(run: &Run<'_>) -> String {
    let most = run.seconds.iter().map(|second| second.served.iter().sum::<u64>().max(second.asked)).max().unwrap_or(1).max(1);
    let step = (RIGHT - LEFT) / run.seconds.len().max(1) as f64;
    let scale = (BOTTOM - TOP) / most as f64;
    let mut out =
        format!("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-labelledby=\"t d\">\n");
    let _ = write!(
        out,
        "<title id=\"t\">A spillover</title>\n<desc id=\"d\">Who answered how many requests in each second of a run of spillway demo. \
         Deployments answered 429 {} times, callers saw {} of them.</desc>\n<style>{STYLE}</style>\n",
        run.absorbed, run.visible
    );
    heading(&mut out, run);
    let mut tick = 0;
    while tick <= most {
        let y = BOTTOM - tick as f64 * scale;
        let _ = writeln!(out, "<line class=\"g\" x1=\"{LEFT}\" x2=\"{RIGHT}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>");
        let _ = writeln!(out, "<text class=\"m\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{tick}</text>", LEFT - 8.0, y + 4.0);
        tick += 5;
    }
    for (at, second) in run.seconds.iter().enumerate() {
        bar(&mut out, run, at, second, (LEFT + at as f64 * step, step), scale);
    }
    demand(&mut out, run, step, scale);
    acts(&mut out, run, step);
    out.push_str("</svg>\n");
    out
}

/// What it is, and what the colours mean.
fn heading(out: &mut String, run: &Run<'_>) {
    let _ = writeln!(out, "<text class=\"t\" x=\"16\" y=\"26\">Answers in each second, by the deployment that gave them</text>");
    let mut x = 16.0;
    for (index, name) in run.backends.iter().enumerate() {
        let _ = writeln!(
            out,
            "<rect class=\"b{index}\" x=\"{x}\" y=\"42\" width=\"12\" height=\"12\"/><text x=\"{}\" y=\"53\">{name}</text>",
            x + 18.0
        );
        x += 130.0;
    }
    let _ = writeln!(out, "<path class=\"x\" d=\"M{x} 48h24\"/><text x=\"{}\" y=\"53\">requests sent</text>", x + 30.0);
    let _ = writeln!(
        out,
        "<text x=\"16\" y=\"80\"><tspan class=\"r\">429 from a deployment: {}</tspan> (the small numbers below the bars) · \
         <tspan style=\"font-weight:600\">429 seen by a caller: {}</tspan></text>",
        run.absorbed, run.visible
    );
}

/// The answers of a second, the first backend at the bottom, and the 429s of that second below.
fn bar(out: &mut String, run: &Run<'_>, at: usize, second: &Second, (x, step): (f64, f64), scale: f64) {
    let mut y = BOTTOM;
    for (index, count) in second.served.iter().enumerate().filter(|(_, count)| **count > 0) {
        let height = *count as f64 * scale;
        y -= height;
        let _ = writeln!(
            out,
            "<rect class=\"b{index}\" x=\"{:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{height:.1}\"><title>{}, second {}: {count}</title></rect>",
            x + 2.0,
            step - 4.0,
            run.backends[index],
            at + 1
        );
    }
    if second.absorbed > 0 {
        let _ = writeln!(
            out,
            "<text class=\"r\" x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            x + step / 2.0,
            BOTTOM + 17.0,
            second.absorbed
        );
    }
}

/// How many requests were sent, as a line.
fn demand(out: &mut String, run: &Run<'_>, step: f64, scale: f64) {
    let mut path = String::new();
    for (at, second) in run.seconds.iter().enumerate() {
        let (x, y) = (LEFT + at as f64 * step, BOTTOM - second.asked as f64 * scale);
        let _ = write!(path, "{}{x:.1} {y:.1}H{:.1}", if at == 0 { "M" } else { "L" }, x + step);
    }
    let _ = writeln!(out, "<path class=\"x\" d=\"{path}\"/>");
}

/// What each part of the run shows, below it; texts that don't fit on a line take two or three.
fn acts(out: &mut String, run: &Run<'_>, step: f64) {
    let mut from = 0;
    for (rate, seconds, title) in run.acts {
        let (x, width) = (LEFT + from as f64 * step, seconds as f64 * step);
        let _ = writeln!(out, "<line class=\"g\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{BOTTOM}\" y2=\"{}\"/>", HEIGHT - 8.0);
        // A letter is about seven units wide.
        let letters = ((width - 12.0) / 6.6).max(1.0);
        let mut lines = vec![String::new()];
        for word in format!("{title} ({rate} requests a second)").split(' ') {
            let line = lines.last().map_or(0, String::len);
            if line > 0 && (line + 1 + word.len()) as f64 > letters {
                lines.push(String::new());
            }
            if let Some(line) = lines.last_mut() {
                if !line.is_empty() {
                    line.push(' ');
                }
                line.push_str(word);
            }
        }
        for (row, line) in lines.iter().enumerate() {
            let _ = writeln!(out, "<text class=\"m\" x=\"{:.1}\" y=\"{:.1}\">{line}</text>", x + 6.0, BOTTOM + 36.0 + row as f64 * 16.0);
        }
        from += seconds;
    }
}
