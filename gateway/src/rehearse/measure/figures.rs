//! The gateway's own metrics at the end of a rehearsal, as Prometheus would read them.

/// One value.
#[derive(Debug, Clone, PartialEq)]
struct Figure {
    name: String,
    labels: Vec<(String, String)>,
    value: f64,
}

/// All values.
#[derive(Debug, Clone, PartialEq, Default)]
pub(in crate::rehearse) struct Figures(Vec<Figure>);

impl Figures {
    /// Reads Prometheus's text format.
    pub(in crate::rehearse) fn read(text: &str) -> Self {
        Figures(text.lines().filter(|line| !line.starts_with('#')).filter_map(figure).collect())
    }

    /// Adds the counters of a gateway that has handed over.
    pub(in crate::rehearse) fn add_counters(&mut self, before: Figures) {
        self.0.extend(before.0.into_iter().filter(|figure| figure.name.ends_with("_total")));
    }

    /// The sum of a metric over all series with these labels; 0 if there is none.
    pub(in crate::rehearse) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.of(name, labels).map(|figure| figure.value).sum()
    }

    /// Whether a metric has a series with these labels and this value.
    pub(in crate::rehearse) fn has(&self, name: &str, labels: &[(&str, &str)], value: f64) -> bool {
        self.of(name, labels).any(|figure| (figure.value - value).abs() < f64::EPSILON)
    }

    fn of<'f>(&'f self, name: &'f str, labels: &'f [(&'f str, &'f str)]) -> impl Iterator<Item = &'f Figure> {
        let fits = move |figure: &&Figure| figure.name == name && labels.iter().all(|(label, value)| figure.label(label) == Some(value));
        self.0.iter().filter(fits)
    }
}

impl Figure {
    fn label(&self, name: &str) -> Option<&str> {
        self.labels.iter().find(|(label, _)| label == name).map(|(_, value)| value.as_str())
    }
}

/// `name{label="value",…} 1`
fn figure(line: &str) -> Option<Figure> {
    let (series, value) = line.rsplit_once(' ')?;
    let (name, labels) = series.split_once('{').map_or((series, ""), |(name, rest)| (name, rest.strip_suffix('}').unwrap_or(rest)));
    Some(Figure { name: name.to_owned(), labels: read_labels(labels), value: value.parse().ok()? })
}

fn read_labels(mut text: &str) -> Vec<(String, String)> {
    let mut labels = Vec::new();
    while let Some((name, rest)) = text.split_once("=\"") {
        let (mut value, mut escaped, mut end) = (String::new(), false, rest.len());
        for (at, letter) in rest.char_indices() {
            match (letter, escaped) {
                ('\\', false) => escaped = true,
                ('"', false) => {
                    end = at;
                    break;
                }
                (letter, _) => {
                    value.push(if escaped && letter == 'n' { '\n' } else { letter });
                    escaped = false;
                }
            }
        }
        labels.push((name.trim_start_matches(',').to_owned(), value));
        text = rest.get(end + 1..).unwrap_or("");
    }
    labels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_read_with_their_labels() {
        let text = "# HELP a b\n# TYPE a counter\na{pool=\"x, \\\"y\\\"\",state=\"ready\"} 1\na{pool=\"z\",state=\"ready\"} 2.5\nb 0\n";
        let figures = Figures::read(text);
        assert!((figures.sum("a", &[("state", "ready")]) - 3.5).abs() < 1e-9);
        assert!(figures.has("a", &[("pool", "x, \"y\"")], 1.0));
        assert!(figures.has("b", &[], 0.0) && !figures.has("c", &[], 0.0));
    }
}
