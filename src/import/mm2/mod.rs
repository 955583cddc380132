//! MirrorMaker 2: the properties file of its dedicated mode, `connect-mirror-maker.sh mm2.properties`.
//!
//! Each enabled flow becomes a link that goes on where MirrorMaker 2 stopped. The semantics are those of Kafka 4: what is said for a flow goes before
//! what is said for all; lists are of expressions over whole names; defaults that a link does not have are written out.
//!
//! Reading order: `keys` (whose property is it, and was it looked at), `link`, `topics`, `consumers`, `cluster`, `security` with `jaas` and `secrets`; `known`,
//! the keys without a counterpart; `notes` and `text`, how it is said.

mod cluster;
mod consumers;
mod jaas;
mod keys;
mod known;
mod link;
mod notes;
mod secrets;
mod security;
#[cfg(test)]
mod tests;
mod text;
mod topics;

use std::collections::BTreeMap;

use self::cluster::Cluster;
use self::keys::{Flow, Keys, Scope, list};
use self::notes::Notes;
use self::secrets::Secrets;
use self::text::{Line, comments, key, table};
use super::{Finding, Import, ImportError, What, properties};
use crate::config::Config;
use crate::model::text::steers;

/// The most letters of an id.
const ID_MAX: usize = 63;

/// Turn the properties file of MirrorMaker 2 into a configuration. `file` is what the text calls it.
///
/// # Errors
/// The file is no properties file, has no flow that is enabled, or describes what a link cannot be.
pub fn import(bytes: &[u8], file: &str) -> Result<Import, ImportError> {
    let keys = Keys::new(properties::parse(bytes)?);
    let aliases = aliases(&keys)?;
    let flows = flows(&keys, &aliases)?;
    let notes = Notes::default();
    for property in &keys.overwritten {
        notes.about(
            &Scope::All,
            property,
            What::NotCarriedOver,
            "the same key stands once more further down, and counts there",
            "",
        );
    }
    let ids = ids(&aliases, &notes);
    let secrets = Secrets::read(&keys);
    let mut clusters: BTreeMap<&str, Cluster> = BTreeMap::new();
    for alias in
        aliases.iter().filter(|alias| flows.iter().any(|flow| flow.source == **alias || flow.target == **alias))
    {
        clusters.insert(alias, cluster::read(alias, &ids[alias], &keys, &notes, &secrets)?);
    }
    let mut links = Vec::new();
    for flow in &flows {
        let (source, target) = (&ids[&flow.source], &ids[&flow.target]);
        let comes_back = comes_back(flow, &flows);
        let lines = link::Reader { flow, source, target, keys: &keys, notes: &notes, comes_back }.read()?;
        links.push((flow, link_id(source, target), lines));
    }
    name_the_rest(&keys, &aliases, &flows, &notes);
    let import = write(file, &ids, clusters, links, &notes);
    rehearse(&import.configuration)?;
    Ok(import)
}

fn aliases(keys: &Keys) -> Result<Vec<String>, ImportError> {
    let names = keys.whole("clusters").map_or("", |names| &*names.value);
    let aliases: Vec<String> = list(names).into_iter().filter(|alias| !alias.is_empty()).map(str::to_owned).collect();
    if aliases.is_empty() {
        let message = "the file names no clusters, so it is none of MirrorMaker 2's dedicated mode";
        return Err(ImportError::new(
            message,
            "name the file that connect-mirror-maker.sh is given; where its connectors run in Kafka Connect, write the links yourself: see From MirrorMaker 2 in the README",
        ));
    }
    Ok(aliases)
}

/// The flows that are enabled, in the order of the clusters.
fn flows(keys: &Keys, aliases: &[String]) -> Result<Vec<Flow>, ImportError> {
    let mut flows = Vec::new();
    for source in aliases {
        for target in aliases.iter().filter(|target| *target != source) {
            let flow = Flow { source: source.clone(), target: target.clone() };
            if keys.of_flow(&flow, "enabled").is_some_and(|enabled| enabled.value.eq_ignore_ascii_case("true"))
                && !flows.contains(&flow)
            {
                flows.push(flow);
            }
        }
    }
    if flows.is_empty() {
        let (one, other) = (&aliases[0], aliases.get(1).map_or("OTHER", |alias| alias));
        return Err(ImportError::new(
            "no flow is enabled, so there is nothing to copy",
            format!("write {one}->{other}.enabled = true into the file"),
        ));
    }
    Ok(flows)
}

/// Whether what a flow copies could come back to where it was read, by way of other flows.
fn comes_back(flow: &Flow, flows: &[Flow]) -> bool {
    let mut reached = vec![&flow.target];
    let mut at = 0;
    while let Some(alias) = reached.get(at).copied() {
        for next in flows.iter().filter(|next| next.source == *alias) {
            if !reached.contains(&&next.target) {
                reached.push(&next.target);
            }
        }
        at += 1;
    }
    reached.contains(&&flow.source)
}

/// The id of each cluster: its alias, as far as an id can be that.
fn ids(aliases: &[String], notes: &Notes) -> BTreeMap<String, String> {
    let mut ids: BTreeMap<String, String> = BTreeMap::new();
    for alias in aliases {
        let fits = |letter: char| letter.is_ascii_alphanumeric() || "._-".contains(letter);
        let mut id: String = alias.chars().map(|letter| if fits(letter) { letter } else { '-' }).take(ID_MAX).collect();
        if id == "." || id == ".." || ids.values().any(|other| *other == id) {
            id = format!("cluster-{}", ids.len() + 1);
        }
        if id != *alias {
            let why = format!(
                "an id of a cluster has 1 to {ID_MAX} letters, digits, dots, underscores and hyphens: {alias} is called {id}"
            );
            notes.about_default(&Scope::Cluster(alias.clone()), alias, What::Differs, &why, "");
        }
        ids.insert(alias.clone(), id);
    }
    ids
}

fn link_id(source: &str, target: &str) -> String {
    let whole = format!("{source}-to-{target}");
    if whole.len() <= ID_MAX {
        return whole;
    }
    let half = |id: &str| id.chars().take((ID_MAX - "-to-".len()) / 2).collect::<String>();
    format!("{}-to-{}", half(source), half(target))
}

/// Say of every key that nobody has looked at why.
fn name_the_rest(keys: &Keys, aliases: &[String], flows: &[Flow], notes: &Notes) {
    for property in keys.unused() {
        let Some((scope, rest)) = keys::scope(&property.key, aliases) else {
            let why = "it is about a flow between clusters that `clusters` does not have";
            notes.about(&Scope::All, property, What::Unknown, why, "see whether it was misspelt");
            continue;
        };
        let is_used = match &scope {
            Scope::All => true,
            Scope::Cluster(alias) => flows.iter().any(|flow| flow.source == *alias || flow.target == *alias),
            Scope::Flow(flow) => flows.contains(flow),
        };
        if !is_used {
            let why = "no flow that is enabled has to do with it";
            notes.about(&Scope::All, property, What::NotCarriedOver, why, "");
            continue;
        }
        if known::is_as_ours(rest, &property.value) {
            continue;
        }
        let reason = known::reason(rest);
        notes.about(&scope, property, reason.what, reason.why, reason.remedy);
        if reason.holds {
            notes.hold(&scope);
        }
    }
}

fn write(
    file: &str,
    ids: &BTreeMap<String, String>,
    clusters: BTreeMap<&str, Cluster>,
    links: Vec<(&Flow, String, Vec<Line>)>,
    notes: &Notes,
) -> Import {
    let mut findings: Vec<Finding> = notes.of(&Scope::All);
    let file: String = file.chars().filter(|letter| !steers(*letter)).collect();
    let mut text = format!("# Made by `tidegate import mm2` from {file}.\n{}\n", comments(&findings));
    for (alias, cluster) in clusters {
        let found = notes.of(&Scope::Cluster(alias.to_owned()));
        let header = format!("clusters.{}", key(&ids[alias]));
        text.push_str(&table(&header, &cluster.lines, &found));
        findings.extend(found);
        for (name, lines) in [("security", cluster.security.tls), ("security.sasl", cluster.security.sasl)] {
            if !lines.is_empty() {
                text.push_str(&table(&format!("{header}.{name}"), &lines, &[]));
            }
        }
    }
    for (flow, id, mut lines) in links {
        let found = notes.of(&Scope::Flow(flow.clone()));
        if notes.is_held(flow) {
            lines.push(Line::Comment("it must not run before what stands in the comments was looked at".to_owned()));
            lines.push(Line::Key("autostart", "false".to_owned()));
        }
        text.push_str(&table(&format!("links.{}", key(&id)), &lines, &found));
        findings.extend(found);
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    Import { configuration: text, findings }
}

/// Have our own loader read it: what it does not take, nobody can use.
fn rehearse(text: &str) -> Result<(), ImportError> {
    let Err(found) = Config::rehearse(text, "the configuration") else { return Ok(()) };
    let first = found.into_iter().next();
    let (message, help) = first.map_or_else(Default::default, |found| {
        (format!("{}: {}", found.key, found.message), found.help.unwrap_or_default())
    });
    Err(ImportError::new(format!("the configuration would be refused: {message}"), help))
}
