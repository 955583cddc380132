//! What is found on the way, and beside which part of the configuration it is said.

use std::cell::RefCell;

use super::keys::{Flow, Scope};
use crate::import::properties::Property;
use crate::import::{Finding, What};

/// The findings so far.
#[derive(Default)]
pub(super) struct Notes {
    found: RefCell<Vec<(Scope, Finding)>>,
    /// What must not run before a person has looked at it.
    held: RefCell<Vec<Scope>>,
}

impl Notes {
    /// A key that is in the file.
    pub(super) fn about(&self, scope: &Scope, property: &Property, what: What, why: &str, remedy: &str) {
        self.add(scope, &property.key, Some(property.line), what, why, remedy);
    }

    /// A key that is not in the file and has a default.
    pub(super) fn about_default(&self, scope: &Scope, key: &str, what: What, why: &str, remedy: &str) {
        self.add(scope, key, None, what, why, remedy);
    }

    fn add(&self, scope: &Scope, key: &str, line: Option<usize>, what: What, why: &str, remedy: &str) {
        let finding = Finding { key: key.to_owned(), line, what, why: why.to_owned(), remedy: remedy.to_owned() };
        let entry = (scope.clone(), finding);
        let mut found = self.found.borrow_mut();
        if !found.contains(&entry) {
            found.push(entry);
        }
    }

    /// The links that this concerns must not start by themselves.
    pub(super) fn hold(&self, scope: &Scope) {
        self.held.borrow_mut().push(scope.clone());
    }

    /// Whether a link must not start by itself.
    pub(super) fn is_held(&self, flow: &Flow) -> bool {
        self.held.borrow().iter().any(|scope| match scope {
            Scope::All => true,
            Scope::Cluster(alias) => *alias == flow.source || *alias == flow.target,
            Scope::Flow(held) => held == flow,
        })
    }

    /// What was found about a part.
    pub(super) fn of(&self, scope: &Scope) -> Vec<Finding> {
        self.found.borrow().iter().filter(|(of, _)| of == scope).map(|(_, finding)| finding.clone()).collect()
    }
}
