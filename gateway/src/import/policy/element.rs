//! An element of a policy.

use roxmltree::Node;

use crate::import::finding::Findings;

/// An element, and its file.
pub(super) struct Element<'d, 'f> {
    pub(super) node: Node<'d, 'd>,
    pub(super) file: &'f str,
}

impl Element<'_, '_> {
    pub(super) fn name(&self) -> &str {
        self.node.tag_name().name()
    }

    /// File, line and element.
    pub(super) fn place(&self) -> String {
        let line = self.node.document().text_pos_at(self.node.range().start).row;
        format!("{}:{line} <{}>", self.file, self.name())
    }

    pub(super) fn at(&self, attribute: &str) -> String {
        format!("{} {attribute}", self.place())
    }

    pub(super) fn attribute(&self, name: &str) -> Option<&str> {
        self.node.attribute(name)
    }

    pub(super) fn attributes(&self) -> Vec<(String, String)> {
        self.node.attributes().map(|attribute| (attribute.name().to_owned(), attribute.value().to_owned())).collect()
    }

    pub(super) fn text(&self) -> String {
        self.node.text().unwrap_or_default().trim().to_owned()
    }

    pub(super) fn children(&self) -> Vec<Self> {
        self.node.children().filter(Node::is_element).map(|node| Element { node, file: self.file }).collect()
    }

    /// The text, unless it is an expression.
    pub(super) fn literal(&self, name: &str, findings: &mut Findings) -> Option<String> {
        let value = self.attribute(name)?.trim();
        if value.starts_with('@') || value.contains("{{") {
            findings.manual(self.at(name), "", format!("is {value}, whose value isn't in the file: set it by hand"));
            return None;
        }
        Some(value.to_owned())
    }

    /// A literal number of at least 1.
    pub(super) fn positive(&self, name: &str, findings: &mut Findings) -> Option<u64> {
        let text = self.literal(name, findings)?;
        let number = text.parse::<u64>().ok().filter(|number| *number > 0);
        if number.is_none() {
            findings.unsupported(self.at(name), "is not a whole number above 0");
        }
        number
    }

    /// Attributes that the import doesn't know.
    pub(super) fn unknown(&self, known: &[&str], findings: &mut Findings) {
        let looked_at = |name: &str| known.contains(&name) || name.ends_with("-header-name") || name.ends_with("-variable-name");
        for (name, _) in self.attributes().iter().filter(|(name, _)| !looked_at(name)) {
            findings.unsupported(self.at(name), "is not known to this import and was left out");
        }
    }
}
