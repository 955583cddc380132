//! Texts in which variables stand: `${now}`.

use std::fmt;

/// A text with variables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(pub Vec<Piece>);

/// A part of a [`Template`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// What stands there.
    Text(String),
    /// What is put there.
    Variable(Variable),
}

/// What can be put into a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variable {
    /// The time of processing: RFC 3339 with milliseconds, in UTC.
    Now,
    /// The link's id.
    Link,
    /// The id of the link's source cluster.
    SourceCluster,
    /// The id of the link's target cluster.
    TargetCluster,
    /// The source topic.
    Topic,
    /// The source partition.
    Partition,
    /// The offset in the source partition.
    Offset,
    /// The record's timestamp, in milliseconds since 1970-01-01 UTC.
    Timestamp,
}

impl Variable {
    /// All variables, by name, with the most bytes that they take.
    const ALL: [(&'static str, Self, usize); 8] = [
        ("now", Self::Now, 24),
        ("link", Self::Link, 63),
        ("source.cluster", Self::SourceCluster, 63),
        ("target.cluster", Self::TargetCluster, 63),
        ("topic", Self::Topic, 249),
        ("partition", Self::Partition, 10),
        ("offset", Self::Offset, 20),
        ("timestamp", Self::Timestamp, 20),
    ];

    fn row(self) -> (&'static str, usize) {
        Self::ALL.iter().find(|(_, variable, _)| *variable == self).map_or(("", 0), |(name, _, bytes)| (name, *bytes))
    }
}

impl Template {
    /// A text in which `${name}` is a variable, and `$${` is `${`.
    ///
    /// # Errors
    /// What is wrong, on one line.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(dollar) = rest.find('$') {
            plain.push_str(&rest[..dollar]);
            let behind = &rest[dollar..];
            rest = if let Some(behind) = behind.strip_prefix("$${") {
                plain.push_str("${");
                behind
            } else if let Some(behind) = behind.strip_prefix("${") {
                let (name, behind) = behind.split_once('}').ok_or("behind ${ stands the name of a variable, and }")?;
                let variable = variable(name)?;
                pieces.extend((!plain.is_empty()).then(|| Piece::Text(std::mem::take(&mut plain))));
                pieces.push(Piece::Variable(variable));
                behind
            } else {
                plain.push('$');
                &behind[1..]
            };
        }
        plain.push_str(rest);
        pieces.extend((!plain.is_empty()).then_some(Piece::Text(plain)));
        Ok(Self(pieces))
    }

    /// Whether a variable stands in it.
    pub fn has(&self, variable: Variable) -> bool {
        self.0.contains(&Piece::Variable(variable))
    }

    /// The most bytes that can become of it.
    pub(super) fn bytes_max(&self) -> usize {
        let bytes = |piece: &Piece| match piece {
            Piece::Text(text) => text.len(),
            Piece::Variable(variable) => variable.row().1,
        };
        self.0.iter().map(bytes).sum()
    }

    /// The same with texts where some variables stood.
    pub(super) fn settled(self, known: impl Fn(Variable) -> Option<String>) -> Self {
        let settled = |piece| match piece {
            Piece::Variable(variable) => known(variable).map_or(piece, Piece::Text),
            Piece::Text(_) => piece,
        };
        Self(self.0.into_iter().map(settled).collect())
    }
}

/// As it is written.
impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|piece| match piece {
            Piece::Text(text) => f.write_str(&text.replace("${", "$${")),
            Piece::Variable(variable) => write!(f, "${{{}}}", variable.row().0),
        })
    }
}

fn variable(name: &str) -> Result<Variable, String> {
    let found = Variable::ALL.iter().find(|(known, ..)| *known == name).map(|(_, variable, _)| *variable);
    found.ok_or_else(|| {
        let known: Vec<_> = Variable::ALL.iter().map(|(name, ..)| format!("${{{name}}}")).collect();
        format!("there is no variable ${{{name}}}: there are {}; $${{ stands for ${{", known.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Piece {
        Piece::Text(text.to_owned())
    }

    #[test]
    fn variables_stand_between_braces() {
        let (now, offset) = (Piece::Variable(Variable::Now), Piece::Variable(Variable::Offset));
        for (written, pieces) in [
            ("", vec![]),
            ("us-west-1", vec![text("us-west-1")]),
            ("${now}", vec![now.clone()]),
            ("at ${now}, ${offset}", vec![text("at "), now.clone(), text(", "), offset]),
            ("5 $, $5 {now} $", vec![text("5 $, $5 {now} $")]),
            ("$${now}", vec![text("${now}")]),
            ("$$${now} $${${now}", vec![text("$${now} ${"), now]),
        ] {
            let template = Template::parse(written).expect("a template");
            assert_eq!(template.0, pieces, "{written}");
            assert_eq!(template.to_string(), written);
        }
    }

    #[test]
    fn what_is_no_variable_is_refused() {
        assert_eq!(Template::parse("a ${now").unwrap_err(), "behind ${ stands the name of a variable, and }");
        assert!(Template::parse("${nwo}").unwrap_err().starts_with("there is no variable ${nwo}: there are ${now}, "));
        assert!(Template::parse("${}").is_err() && Template::parse("${ now }").is_err());
    }

    #[test]
    fn what_is_settled_is_text() {
        let known = |variable| (variable == Variable::Link).then(|| "orders".to_owned());
        let template = Template::parse("${link}@${offset}$${link}").expect("a template").settled(known);
        assert_eq!(template.to_string(), "orders@${offset}$${link}");
        assert_eq!(Template::parse(&template.to_string()).expect("a template").bytes_max(), 6 + 1 + 20 + 7);
    }
}
