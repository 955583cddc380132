//! ACLs on topics.

use std::collections::BTreeSet;
use std::sync::Arc;

use kafka_protocol::messages::create_acls_request::AclCreation;
use kafka_protocol::messages::{CreateAclsRequest, DescribeAclsRequest};
use kafka_protocol::protocol::StrBytes;

use super::admin::Admin;
use super::error::{self, Code};
use crate::connector::{Acl, AclTopics, Error, Operation};

/// The type of a topic among the resources that have ACLs.
const TOPIC: i8 = 2;

/// Anything, in a filter.
const ANY: i8 = 1;

/// Kinds of patterns.
const LITERAL: i8 = 3;
const PREFIXED: i8 = 4;

/// Kinds of permissions.
const DENY: i8 = 2;
const ALLOW: i8 = 3;

/// The name that stands for every topic.
const EVERY: &str = "*";

/// How many ACLs go in a request.
const ACLS_AT_ONCE: usize = 500;

impl Admin {
    /// All ACLs on topics; `None`: the cluster has no authorizer.
    pub(super) fn topic_acls(&self) -> Result<Option<BTreeSet<Acl>>, Error> {
        let request = DescribeAclsRequest::default()
            .with_resource_type_filter(TOPIC)
            .with_resource_name_filter(None)
            .with_pattern_type_filter(ANY)
            .with_principal_filter(None)
            .with_host_filter(None)
            .with_operation(ANY)
            .with_permission_type(ANY);
        let answer = self.ask_controller(&request)?;
        match Code(answer.error_code) {
            Code(0) => {}
            Code::SECURITY_DISABLED => return Ok(None),
            code => return Err(error::acls_not_read(code)),
        }
        let mut acls = BTreeSet::new();
        for resource in answer.resources {
            let name: Arc<str> = resource.resource_name.as_str().into();
            let topics = match resource.pattern_type {
                LITERAL if &*name == EVERY => AclTopics::Every,
                LITERAL => AclTopics::Literal(name),
                PREFIXED => AclTopics::Prefixed(name),
                _ => continue,
            };
            acls.extend(resource.acls.into_iter().filter_map(|acl| {
                Some(Acl {
                    topics: topics.clone(),
                    principal: acl.principal.as_str().into(),
                    host: acl.host.as_str().into(),
                    operation: Operation::of_code(acl.operation)?,
                    allow: acl.permission_type == ALLOW,
                })
            }));
        }
        Ok(Some(acls))
    }

    /// Add ACLs on topics.
    pub(super) fn add_acls(&self, acls: &[Acl]) -> Result<(), Error> {
        for some in acls.chunks(ACLS_AT_ONCE) {
            let request = CreateAclsRequest::default().with_creations(some.iter().map(creation).collect());
            for (acl, result) in some.iter().zip(self.ask_controller(&request)?.results) {
                Code(result.error_code)
                    .check()
                    .map_err(|code| error::acl_not_added(acl, code, result.error_message.as_deref()))?;
            }
        }
        Ok(())
    }
}

fn creation(acl: &Acl) -> AclCreation {
    let text = |text: &str| StrBytes::from_string(text.to_owned());
    let (kind, name) = match &acl.topics {
        AclTopics::Literal(name) => (LITERAL, &**name),
        AclTopics::Prefixed(prefix) => (PREFIXED, &**prefix),
        AclTopics::Every => (LITERAL, EVERY),
    };
    AclCreation::default()
        .with_resource_type(TOPIC)
        .with_resource_name(text(name))
        .with_resource_pattern_type(kind)
        .with_principal(text(&acl.principal))
        .with_host(text(&acl.host))
        .with_operation(acl.operation as i8)
        .with_permission_type(if acl.allow { ALLOW } else { DENY })
}
