//! What a stranger reads.

use krpc::seal::Seal;
use krpc_core::transport::Topic;

use super::{Scene, key};
use crate::support::{Place, scenario, stranger::Stranger};

const SECRET: &str = "the crown jewels are in the cellar";
const TOPICS: [Topic; 2] = [Topic::Calls, Topic::Replies];

/// Whether a text is anywhere in these records.
fn is_seen(records: &[Vec<u8>], text: &str) -> bool {
    let text = text.as_bytes();
    records.iter().any(|record| record.windows(text.len()).any(|part| part == text))
}

async fn seen(place: &Place, seal: Seal) -> [bool; 3] {
    let scene = Scene::new(place, seal).await;
    for _ in 0..10 {
        let answer = scene.echo.echo(SECRET.to_owned()).await;
        assert_eq!(answer, Ok(format!("{SECRET}, again")));
    }
    let stranger = Stranger::new(place, "Echo");
    let records = TOPICS.iter().flat_map(|topic| stranger.read(*topic));
    let records: Vec<_> = records.map(|(_, value)| value).collect();
    assert!(records.len() > 20, "calls and their answers");
    [SECRET, ", again", "Echo/echo"].map(|text| is_seen(&records, text))
}

#[test]
fn what_is_encrypted_shows_no_argument_no_value_and_no_method() {
    scenario(async |place| {
        assert_eq!(seen(&place, Seal::new().encrypt(key())).await, [false; 3]);
    });
    scenario(async |place| {
        assert_eq!(seen(&place, Seal::new().compress(3).encrypt(key())).await, [false; 3]);
    });
}

/// Or the one above would prove nothing.
#[test]
fn what_is_verified_can_be_read() {
    scenario(async |place| {
        assert_eq!(seen(&place, Seal::new().verify(key())).await, [true; 3]);
    });
}
