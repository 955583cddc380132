//! The requests that we make: in which versions, how large their answers may be, and how those are read. A request that is not here cannot be sent, so no answer
//! is read in any other way.
//!
//! Requests are those of the crate `kafka-protocol`, and so are the structures of most answers; the crate's own decoding is never used (see [`fields`](super::fields)).
//! The tests compare the two for answers that are made up from what is written here.

use std::ops::RangeInclusive;

use kafka_protocol::messages::{
    AddPartitionsToTxnRequest, CreateAclsRequest, CreatePartitionsRequest, CreateTopicsRequest, DescribeAclsRequest,
    DescribeConfigsRequest, DescribeGroupsRequest, EndTxnRequest, FindCoordinatorRequest, HeartbeatRequest,
    IncrementalAlterConfigsRequest, InitProducerIdRequest, JoinGroupRequest, LeaveGroupRequest, ListGroupsRequest,
    ListOffsetsRequest, MetadataRequest, OffsetCommitRequest, OffsetFetchRequest, OffsetForLeaderEpochRequest,
    ProduceRequest, SaslAuthenticateRequest, SyncGroupRequest,
};
use kafka_protocol::messages::{
    add_partitions_to_txn_response as add_partitions, create_acls_response as create_acls,
    create_partitions_response as create_partitions, create_topics_response as create_topics,
    describe_acls_response as describe_acls, describe_configs_response as describe_configs,
    describe_groups_response as describe_groups, end_txn_response as end_txn,
    find_coordinator_response as find_coordinator, heartbeat_response as heartbeat,
    incremental_alter_configs_response as alter_configs, init_producer_id_response as init_producer_id,
    join_group_response as join_group, leave_group_response as leave_group, list_groups_response as list_groups,
    list_offsets_response as list_offsets, metadata_response as metadata, offset_commit_response as offset_commit,
    offset_fetch_response as offset_fetch, offset_for_leader_epoch_response as leader_epoch,
    produce_response as produce, sasl_authenticate_response as sasl, sync_group_response as sync_group,
};
use kafka_protocol::protocol::{HeaderVersion, Request};

use super::fields::{Fields, Flaw, structures};

/// What an answer may take that says something of few things, in bytes. A broker that nobody has authenticated yet cannot send more.
pub(crate) const SMALL: usize = 4 << 20;

/// What an answer may take that says something of many topics, partitions, groups or ACLs, in bytes: metadata of a million partitions is about 45 MB.
pub(crate) const LARGE: usize = 64 << 20;

/// What an answer with records may take, in bytes: it holds what was asked for, or one record batch where that is larger.
pub(crate) const RECORDS: usize = 256 << 20;

/// A request that we make, and how its answer is read.
pub(crate) trait Call: Request {
    type Answer;
    /// The versions that we speak.
    const SPOKEN: RangeInclusive<i16>;
    /// What an answer may take, in bytes.
    const ANSWER_BYTES_MAX: usize;

    /// Whether answers of this version have varints for lengths.
    fn is_flexible(version: i16) -> bool {
        Self::Response::header_version(version) > 0
    }

    /// Read an answer.
    ///
    /// # Errors
    /// It is not one.
    fn read_answer<F: Fields>(from: &mut F, version: i16) -> Result<Self::Answer, Flaw>;
}

macro_rules! calls {
    ($($request:ty: $versions:expr, $bytes_max:expr;)*) => {
        $(impl Call for $request {
            type Answer = Self::Response;
            const SPOKEN: RangeInclusive<i16> = $versions;
            const ANSWER_BYTES_MAX: usize = $bytes_max;

            fn read_answer<F: Fields>(from: &mut F, version: i16) -> Result<Self::Answer, Flaw> {
                from.read(version)
            }
        })*

        /// Show each request to `visitor` whose answer is a structure of the crate.
        #[cfg(any(fuzzing, test))]
        pub(crate) fn each_call(visitor: &mut impl EachCall) {
            $(visitor.visit::<$request>();)*
        }
    };
}

/// What is done with each request, by tests and by the fuzzer.
#[cfg(any(fuzzing, test))]
pub(crate) trait EachCall {
    fn visit<R: Call<Answer = <R as Request>::Response>>(&mut self)
    where
        R::Response: PartialEq + std::fmt::Debug;
}

calls! {
    AddPartitionsToTxnRequest: 1..=3, LARGE;
    CreateAclsRequest: 1..=3, LARGE;
    CreatePartitionsRequest: 0..=3, LARGE;
    CreateTopicsRequest: 5..=7, LARGE;
    DescribeAclsRequest: 1..=3, LARGE;
    DescribeConfigsRequest: 1..=4, LARGE;
    DescribeGroupsRequest: 4..=5, LARGE;
    EndTxnRequest: 1..=5, SMALL;
    FindCoordinatorRequest: 4..=6, SMALL;
    HeartbeatRequest: 3..=4, SMALL;
    IncrementalAlterConfigsRequest: 0..=1, LARGE;
    InitProducerIdRequest: 2..=5, SMALL;
    JoinGroupRequest: 5..=9, SMALL;
    LeaveGroupRequest: 3..=5, SMALL;
    ListGroupsRequest: 4..=5, LARGE;
    ListOffsetsRequest: 4..=7, LARGE;
    MetadataRequest: 4..=13, LARGE;
    OffsetCommitRequest: 7..=9, LARGE;
    OffsetFetchRequest: 8..=9, LARGE;
    OffsetForLeaderEpochRequest: 3..=4, LARGE;
    ProduceRequest: 9..=13, LARGE;
    SaslAuthenticateRequest: 0..=2, SMALL;
    SyncGroupRequest: 3..=5, SMALL;
}

structures! {
    add_partitions::AddPartitionsToTxnResponse { throttle_time_ms, results_by_topic_v3_and_below }
    add_partitions::AddPartitionsToTxnTopicResult { name, results_by_partition }
    add_partitions::AddPartitionsToTxnPartitionResult { partition_index, partition_error_code }

    create_acls::CreateAclsResponse { throttle_time_ms, results }
    create_acls::AclCreationResult { error_code, error_message }

    create_partitions::CreatePartitionsResponse { throttle_time_ms, results }
    create_partitions::CreatePartitionsTopicResult { name, error_code, error_message }

    create_topics::CreateTopicsResponse { throttle_time_ms, topics }
    create_topics::CreatableTopicResult {
        name, topic_id @ 7.., error_code, error_message, num_partitions, replication_factor, configs
    }
    create_topics::CreatableTopicConfigs { name, value, read_only, config_source, is_sensitive }

    describe_acls::DescribeAclsResponse { throttle_time_ms, error_code, error_message, resources }
    describe_acls::DescribeAclsResource { resource_type, resource_name, pattern_type, acls }
    describe_acls::AclDescription { principal, host, operation, permission_type }

    describe_configs::DescribeConfigsResponse { throttle_time_ms, results }
    describe_configs::DescribeConfigsResult { error_code, error_message, resource_type, resource_name, configs }
    describe_configs::DescribeConfigsResourceResult {
        name, value, read_only, config_source, is_sensitive, synonyms, config_type @ 3.., documentation @ 3..
    }
    describe_configs::DescribeConfigsSynonym { name, value, source }

    describe_groups::DescribeGroupsResponse { throttle_time_ms, groups }
    describe_groups::DescribedGroup {
        error_code, group_id, group_state, protocol_type, protocol_data, members, authorized_operations
    }
    describe_groups::DescribedGroupMember {
        member_id, group_instance_id, client_id, client_host, member_metadata, member_assignment
    }

    end_txn::EndTxnResponse { throttle_time_ms, error_code, producer_id @ 5.., producer_epoch @ 5.. }

    find_coordinator::FindCoordinatorResponse { throttle_time_ms, coordinators }
    find_coordinator::Coordinator { key, node_id, host, port, error_code, error_message }

    heartbeat::HeartbeatResponse { throttle_time_ms, error_code }

    alter_configs::IncrementalAlterConfigsResponse { throttle_time_ms, responses }
    alter_configs::AlterConfigsResourceResponse { error_code, error_message, resource_type, resource_name }

    init_producer_id::InitProducerIdResponse { throttle_time_ms, error_code, producer_id, producer_epoch }

    join_group::JoinGroupResponse {
        throttle_time_ms, error_code, generation_id, protocol_type @ 7.., protocol_name, leader,
        skip_assignment @ 9.., member_id, members
    }
    join_group::JoinGroupResponseMember { member_id, group_instance_id, metadata }

    leave_group::LeaveGroupResponse { throttle_time_ms, error_code, members }
    leave_group::MemberResponse { member_id, group_instance_id, error_code }

    list_groups::ListGroupsResponse { throttle_time_ms, error_code, groups }
    list_groups::ListedGroup { group_id, protocol_type, group_state, group_type @ 5.. }

    list_offsets::ListOffsetsResponse { throttle_time_ms, topics }
    list_offsets::ListOffsetsTopicResponse { name, partitions }
    list_offsets::ListOffsetsPartitionResponse { partition_index, error_code, timestamp, offset, leader_epoch }

    metadata::MetadataResponse {
        throttle_time_ms, brokers, cluster_id, controller_id, topics, cluster_authorized_operations @ 8..=10,
        error_code @ 13..
    }
    metadata::MetadataResponseBroker { node_id, host, port, rack }
    metadata::MetadataResponseTopic {
        error_code, name, topic_id @ 10.., is_internal, partitions, topic_authorized_operations @ 8..
    }
    metadata::MetadataResponsePartition {
        error_code, partition_index, leader_id, leader_epoch @ 7.., replica_nodes, isr_nodes, offline_replicas @ 5..
    }

    offset_commit::OffsetCommitResponse { throttle_time_ms, topics }
    offset_commit::OffsetCommitResponseTopic { name, partitions }
    offset_commit::OffsetCommitResponsePartition { partition_index, error_code }

    offset_fetch::OffsetFetchResponse { throttle_time_ms, groups }
    offset_fetch::OffsetFetchResponseGroup { group_id, topics, error_code }
    offset_fetch::OffsetFetchResponseTopics { name, partitions }
    offset_fetch::OffsetFetchResponsePartitions {
        partition_index, committed_offset, committed_leader_epoch, metadata, error_code
    }

    leader_epoch::OffsetForLeaderEpochResponse { throttle_time_ms, topics }
    leader_epoch::OffsetForLeaderTopicResult { topic, partitions }
    leader_epoch::EpochEndOffset { error_code, partition, leader_epoch, end_offset }

    produce::ProduceResponse { responses, throttle_time_ms }
    produce::TopicProduceResponse { name @ ..=12, topic_id @ 13.., partition_responses }
    produce::PartitionProduceResponse {
        index, error_code, base_offset, log_append_time_ms, log_start_offset, record_errors, error_message
    }
    produce::BatchIndexAndErrorMessage { batch_index, batch_index_error_message }

    sasl::SaslAuthenticateResponse { error_code, error_message, auth_bytes, session_lifetime_ms @ 1.. }

    sync_group::SyncGroupResponse {
        throttle_time_ms, error_code, protocol_type @ 5.., protocol_name @ 5.., assignment
    }
}
