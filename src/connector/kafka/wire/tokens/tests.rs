use super::*;

const OF: Digest = [1; 32];
const SECOND: Duration = Duration::from_secs(1);

fn issued(token: &str, seconds: u64) -> Result<Issued, String> {
    Ok(Issued { token: token.into(), lifetime: Duration::from_secs(seconds) })
}

/// What is answered, and whether a token is requested.
fn ask(state: &mut State, of: Digest, now: Instant) -> (String, bool) {
    let Step { answer, requests } = state.next(&of, now);
    let answer = match answer {
        Some(Ok(token)) => token.expose_secret().to_owned(),
        Some(Err(what)) => what,
        None => "wait".to_owned(),
    };
    (answer, requests)
}

fn said(answer: &str, requests: bool) -> (String, bool) {
    (answer.to_owned(), requests)
}

#[test]
fn a_token_is_replaced_before_it_ends_and_nobody_waits_for_that() {
    let (mut state, begun) = (State::default(), Instant::now());
    assert_eq!(ask(&mut state, OF, begun), said("wait", true));
    assert_eq!(ask(&mut state, OF, begun), said("wait", false));
    // What the request took is taken off the life of the token.
    state.ended(OF, begun, issued("one", 100), begun + SECOND * 9);
    for (second, requests) in [(9, false), (79, false), (80, true), (81, false), (99, false)] {
        assert_eq!(ask(&mut state, OF, begun + SECOND * second), said("one", requests), "{second}");
    }
    assert_eq!(ask(&mut state, OF, begun + SECOND * 100), said("wait", false));
    state.ended(OF, begun + SECOND * 80, issued("two", 100), begun + SECOND * 101);
    assert_eq!(ask(&mut state, OF, begun + SECOND * 101), said("two", false));
}

#[test]
fn a_service_that_is_down_interrupts_nothing_before_the_token_ends() {
    let (mut state, begun) = (State::default(), Instant::now());
    assert!(ask(&mut state, OF, begun).1);
    state.ended(OF, begun, issued("one", 100), begun);
    let mut requests = Vec::new();
    for second in 0..300 {
        let now = begun + SECOND * second;
        let (answer, is_requested) = ask(&mut state, OF, now);
        assert_eq!(answer == "one", second < 100, "{second}: {answer}");
        if is_requested {
            requests.push(second);
            state.ended(OF, now, Err("it answers 503".to_owned()), now);
        }
    }
    assert_eq!(requests, [80, 81, 83, 87, 95, 111, 143, 203, 263]);
    assert_eq!(
        ask(&mut state, OF, begun + SECOND * 299),
        said("it answers 503 (failure 9 in a row; the next try is 60 s later)", false)
    );
    state.ended(OF, begun, issued("two", 1000), begun);
    assert_eq!(ask(&mut state, OF, begun + SECOND * 299), said("two", false));
}

#[test]
fn another_secret_gets_a_token_of_its_own_at_once() {
    let (mut state, now, other) = (State::default(), Instant::now(), [2; 32]);
    assert!(ask(&mut state, OF, now).1);
    state.ended(OF, now, issued("one", 100), now);
    assert_eq!(ask(&mut state, other, now), said("wait", true));
    state.ended(other, now, Err("it answers 401".to_owned()), now);
    assert!(!ask(&mut state, other, now).1);
    assert_eq!(ask(&mut state, OF, now), said("one", false));
    assert_eq!(ask(&mut state, [3; 32], now), said("wait", true));
}

#[test]
fn a_token_that_ends_at_once_is_a_failure_and_not_asked_for_again_and_again() {
    for seconds in [0, 29, u64::MAX] {
        let (mut state, now) = (State::default(), Instant::now());
        assert!(ask(&mut state, OF, now).1);
        state.ended(OF, now, issued("one", seconds), now);
        let (answer, requests) = ask(&mut state, OF, now);
        assert!(answer.starts_with(&format!("it issued a token for {seconds} s (failure 1")) && !requests, "{answer}");
    }
}
