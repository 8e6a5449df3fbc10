//! Categories of harm in Content Safety.

/// A category of harm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Category {
    /// `Hate`
    Hate,
    /// `SelfHarm`
    SelfHarm,
    /// `Sexual`
    Sexual,
    /// `Violence`
    Violence,
}

impl Category {
    /// All of them, in the order of their declaration.
    pub const ALL: [Category; 4] = [Category::Hate, Category::SelfHarm, Category::Sexual, Category::Violence];

    /// Its name in configs, metrics and answers.
    pub fn label(self) -> &'static str {
        match self {
            Category::Hate => "hate",
            Category::SelfHarm => "self_harm",
            Category::Sexual => "sexual",
            Category::Violence => "violence",
        }
    }

    /// Its name in the API.
    pub(super) fn wire(self) -> &'static str {
        match self {
            Category::Hate => "Hate",
            Category::SelfHarm => "SelfHarm",
            Category::Sexual => "Sexual",
            Category::Violence => "Violence",
        }
    }
}
