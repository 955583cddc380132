//! Records of the source whose transaction is open or was aborted: a link reads them if it is told
//! to, and its verification with it.

use std::time::Duration;

use kafka_brokers::Cluster;
use kafka_oracle::{Foreign, Record};
use tidegate::api::wire::Verdict;

use crate::clusters::{Version, options};
use crate::harness::{Site, wait_until};
use crate::verify::verify_link;

/// Longer than the test: nothing ends by itself.
const HANGS: Duration = Duration::from_secs(900);

#[test]
fn a_link_reads_what_is_not_committed_if_it_is_told_to() {
    let source = Cluster::start(&options(Version::Two, 1)).expect("a source");
    kafka_oracle::create(&source.bootstrap(), "records", 1, &[]).expect("a topic");
    let record = |number: u64| Record::generate(7, number, 1).1;
    let writer = |id: &str| Foreign::take(&source.bootstrap(), id, HANGS).expect("a producer");
    let (committed, aborted, open) = (writer("committed"), writer("aborted"), writer("open"));
    for (number, producer) in (0..).zip([&committed, &aborted]) {
        producer.hang("records", 0, &record(number)).expect("written");
    }
    committed.commit().expect("committed");
    aborted.abort().expect("aborted");
    open.hang("records", 0, &record(2)).expect("written");
    committed.hang("records", 0, &record(3)).expect("written");
    committed.commit().expect("committed");

    let link = |id: &str, level: &str| {
        format!(
            "[links.{id}]\nsource = \"east\"\ntarget = \"west\"\ntopics = [\"records\"]\ntopic_prefix = \"{id}.\"\n\
             config.isolation_level = \"{level}\"\n"
        )
    };
    let clusters = format!(
        "[clusters.east]\nkind = \"kafka\"\nbrokers = [\"{}\"]\n[clusters.west]\nkind = \"embedded\"\n",
        source.bootstrap()
    );
    let site = Site::new(&(clusters + &link("all", "read_uncommitted") + &link("some", "read_committed")));
    let daemon = site.start();
    let copied = |link: &str| site.client.link(link).counters.records_out;
    wait_until("all are copied", || copied("all") == 4);
    wait_until("what is committed before the open one is copied", || copied("some") == 1);
    let lag =
        || site.client.link("all").lanes.iter().flat_map(|lane| &lane.partitions).map(|it| it.lag).collect::<Vec<_>>();
    wait_until("nothing is left", || lag() == [Some(0)]);
    for link in ["all", "some"] {
        let (status, done) = verify_link(&site, link);
        let report = done.report.as_ref().expect("a report");
        assert_eq!((status, done.verdict), (Some(0), Some(Verdict::Fine)), "{link}: {report:#?}");
        assert_eq!(report.records_matched, copied(link), "{link}: {report:#?}");
    }

    // What was copied before it was aborted stays.
    open.abort().expect("aborted");
    wait_until("what is behind it is copied", || copied("some") == 2);
    let (status, done) = verify_link(&site, "all");
    assert_eq!((status, done.verdict), (Some(0), Some(Verdict::Fine)), "{:#?}", done.report);
    assert_eq!(copied("all"), 4);
    daemon.terminate();
}
