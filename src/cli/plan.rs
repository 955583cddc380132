//! `link plan`.

use std::io::{self, Write};

use super::args::LinkArgs;
use super::client::Client;
use super::failure::Failure;
use super::print_json;
use super::table::known;
use crate::api::wire::{GroupFate, Notice, Plan, PlannedAction, PlannedSetting, PlannedTopic};

pub(super) fn plan(args: &LinkArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let plan: Plan = Client::new(&args.remote.daemon)?.get(&["replication", "links", &args.link, "plan"], &[])?;
    if args.remote.json {
        return print_json(out, &plan);
    }
    Ok(print(&plan, out)?)
}

fn print(plan: &Plan, out: &mut dyn Write) -> io::Result<()> {
    let (done, to_do): (Vec<_>, Vec<_>) = plan.topics.iter().partition(|topic| is_done(topic));
    to_do.iter().try_for_each(|topic| print_topic(topic, out))?;
    match plan.topics.len() {
        0 => writeln!(out, "{} reads no topic that is there", plan.link)?,
        all => writeln!(out, "{} of {all} topics are as they should be", done.len())?,
    }
    let moving = plan.groups.iter().filter(|group| group.fate == GroupFate::Move);
    for group in moving {
        let count = group.partitions.iter().filter(|partition| partition.moves).count();
        let worst = group.partitions.iter().map(|partition| partition.certainty).max();
        writeln!(out, "move group {} in {count} partitions ({})", group.group, known(worst))?;
    }
    plan.notices.iter().try_for_each(|it| notice(out, "", it))
}

fn is_done(topic: &PlannedTopic) -> bool {
    topic.action == PlannedAction::Keep && topic.settings.is_empty() && topic.acls.is_empty()
}

fn print_topic(topic: &PlannedTopic, out: &mut dyn Write) -> io::Result<()> {
    let PlannedTopic { source, target, partitions_from, partitions_to, .. } = topic;
    let from = if source == target { String::new() } else { format!(" (from {source})") };
    match (topic.action, partitions_from) {
        (PlannedAction::Make, _) => writeln!(out, "make {target}{from} with {partitions_to} partitions")?,
        (PlannedAction::AddPartitions, Some(has)) => {
            writeln!(out, "change {target}{from}\n  partitions: {has} → {partitions_to}")?;
        }
        _ => writeln!(out, "change {target}{from}")?,
    }
    topic.settings.iter().try_for_each(|setting| print_setting(topic.action, setting, out))?;
    for acl in &topic.acls {
        let permission = acl.permission.to_lowercase();
        writeln!(out, "  ACL: {permission} {} to {} from {}", acl.operation, acl.principal, acl.host)?;
    }
    Ok(())
}

fn print_setting(action: PlannedAction, setting: &PlannedSetting, out: &mut dyn Write) -> io::Result<()> {
    let word = |value: &Option<String>| value.clone().unwrap_or_else(|| "the default".to_owned());
    let PlannedSetting { name, from, to } = setting;
    match action {
        PlannedAction::Make => writeln!(out, "  {name}: {}", word(to)),
        _ => writeln!(out, "  {name}: {} → {}", word(from), word(to)),
    }
}

/// Say what is odd.
pub(super) fn notice(out: &mut dyn Write, indent: &str, notice: &Notice) -> io::Result<()> {
    writeln!(out, "{indent}notice: {} ({})", notice.message, notice.code)?;
    if notice.remedy.is_empty() { Ok(()) } else { writeln!(out, "{indent}  help: {}", notice.remedy) }
}
