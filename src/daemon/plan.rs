//! A plan, as the wire shows it.

use crate::api::wire;
use crate::connector::Acl;
use crate::link::topics::notices::Notice;
use crate::link::topics::plan::{Action, Plan, SettingChange, TopicPlan};
use crate::model::LinkId;

pub(super) fn plan(link: &LinkId, plan: &Plan) -> wire::Plan {
    wire::Plan {
        link: link.to_string(),
        topics: plan.topics.iter().map(topic).collect(),
        groups: plan.groups.iter().map(super::groups::group).collect(),
        notices: plan.notices.iter().map(notice).collect(),
    }
}

fn topic(topic: &TopicPlan) -> wire::PlannedTopic {
    let (action, partitions_from, partitions_to) = match topic.action {
        Action::Make { partitions } => (wire::PlannedAction::Make, None, partitions),
        Action::AddPartitions { from, to } => (wire::PlannedAction::AddPartitions, Some(from), to),
        Action::Keep { partitions } => (wire::PlannedAction::Keep, Some(partitions), partitions),
    };
    wire::PlannedTopic {
        source: topic.source.to_string(),
        target: topic.target.to_string(),
        action,
        partitions_from,
        partitions_to,
        settings: topic.settings.iter().map(setting).collect(),
        acls: topic.acls.iter().map(acl).collect(),
    }
}

fn setting((name, change): (&String, &SettingChange)) -> wire::PlannedSetting {
    wire::PlannedSetting { name: name.clone(), from: change.from.clone(), to: change.to.clone() }
}

fn acl(acl: &Acl) -> wire::PlannedAcl {
    wire::PlannedAcl {
        principal: acl.principal.to_string(),
        host: acl.host.to_string(),
        operation: format!("{:?}", acl.operation),
        permission: if acl.allow { "Allow" } else { "Deny" }.to_owned(),
    }
}

pub(super) fn notice(notice: &Notice) -> wire::Notice {
    wire::Notice {
        code: notice.code.to_owned(),
        topic: Some(notice.topic.to_string()).filter(|topic| !topic.is_empty()),
        message: notice.message.clone(),
        remedy: notice.remedy.clone(),
    }
}
