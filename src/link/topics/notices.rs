//! What is odd about the topics of a link, as long as it is.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use crate::link::events::{Event, Events};
use crate::link::failure::Failure;
use crate::link::status::lock;

/// Something that people should know of a topic. The link goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// A stable word.
    pub code: &'static str,
    /// The topic of the source or of the target; empty if it is about all of them.
    pub topic: Arc<str>,
    /// What happened.
    pub message: String,
    /// What the operator can do about it.
    pub remedy: String,
}

impl Notice {
    pub(in crate::link) fn of(topic: &Arc<str>, failure: Failure) -> Self {
        let Failure { code, message, remedy, .. } = failure;
        Self { code, topic: topic.clone(), message, remedy }
    }
}

/// What notices are about: those of a kind are found out together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::link) enum About {
    /// Topics of the source that are gone.
    Sources,
    /// Topics that the link names and the source never had.
    Missing,
    /// Topics of the source that the link selects and cannot copy.
    LeftOut,
    /// Topics of the target that could not be made.
    Targets,
    /// Settings that could not be kept in step.
    Settings,
    /// Topics that are compacted and whose copies cannot be.
    Compaction,
    /// ACLs that could not be kept in step.
    Acls,
    /// Consumer groups that could not be moved.
    Groups,
    /// Heartbeats that could not be sent.
    Heartbeats,
}

/// Who finds out what notices are about: they leave when it is not this daemon any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::link) enum FoundBy {
    /// Every daemon that runs the link.
    All,
    /// The one that does what is to be done once for the whole link.
    Leader,
    /// Whichever has lanes that move records.
    Lanes,
}

impl About {
    fn found_by(self) -> FoundBy {
        match self {
            Self::Sources | Self::Missing | Self::LeftOut | Self::Targets => FoundBy::All,
            Self::Settings | Self::Compaction | Self::Acls | Self::Groups => FoundBy::Leader,
            Self::Heartbeats => FoundBy::Lanes,
        }
    }
}

/// The notices of a link.
#[derive(Debug, Default)]
pub(in crate::link) struct Notices {
    notices: Mutex<BTreeMap<(About, Arc<str>), Notice>>,
}

impl Notices {
    /// All there are, in order.
    pub(in crate::link) fn all(&self) -> Vec<Notice> {
        lock(&self.notices).values().cloned().collect()
    }

    /// What is known now of topics that are not there. Of one that is gone it is known already.
    pub(in crate::link) fn missing(&self, mut now: Vec<Notice>, events: &Events) {
        let gone = |notice: &Notice| lock(&self.notices).contains_key(&(About::Sources, notice.topic.clone()));
        now.retain(|notice| !gone(notice));
        self.replace(About::Missing, now, events);
    }

    /// What is known now about these things; what was known before and is not among it has gone away. What is new becomes an event.
    pub(in crate::link) fn replace(&self, about: About, now: Vec<Notice>, events: &Events) {
        let mut notices = lock(&self.notices);
        let before: Vec<_> = notices.keys().filter(|(kind, _)| *kind == about).cloned().collect();
        for key in before.iter().filter(|key| !now.iter().any(|notice| notice.topic == key.1)) {
            notices.remove(key);
        }
        for notice in now {
            tell(&mut notices, about, notice, events);
        }
    }

    /// This daemon does not find out any more what these are about. Whoever does has notices of its own.
    pub(in crate::link) fn leave_to_others(&self, found_by: FoundBy) {
        lock(&self.notices).retain(|(about, _), _| about.found_by() != found_by);
    }

    /// A topic of the source is gone.
    pub(in crate::link) fn source_gone(&self, topic: &Arc<str>, events: &Events) {
        tell(&mut lock(&self.notices), About::Sources, source_deleted(topic), events);
    }

    /// A topic of the source is there, again or still.
    pub(in crate::link) fn source_is_there(&self, topic: &Arc<str>) {
        lock(&self.notices).remove(&(About::Sources, topic.clone()));
    }
}

fn tell(notices: &mut BTreeMap<(About, Arc<str>), Notice>, about: About, notice: Notice, events: &Events) {
    let known = notices.insert((about, notice.topic.clone()), notice.clone());
    if known.is_none_or(|known| known.code != notice.code) {
        tracing::warn!(topic = &*notice.topic, code = notice.code, "{}", notice.message);
        events.push(Event::new(notice.code, notice.message));
    }
}

/// What is said of a topic that the link has read and that is not there any more.
pub(super) fn source_deleted(topic: &Arc<str>) -> Notice {
    Notice {
        code: "source-topic-deleted",
        topic: topic.clone(),
        message: format!(
            "topic {topic} was deleted at the source, or we may not see it any more; its copy stays as it is"
        ),
        remedy: "delete the copy by hand if nobody needs it, and take the topic out of the link's topics".to_owned(),
    }
}
