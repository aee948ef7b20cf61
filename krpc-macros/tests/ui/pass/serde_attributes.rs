//! What serde is told of an argument holds for its field.

#[krpc::service]
trait Search {
    async fn find(
        &self,
        #[serde(rename = "q")] query: String,
        #[serde(default = "ten")] limit: u32,
        #[serde(default, skip_serializing_if = "Option::is_none")] after: Option<u64>,
    ) -> String;
}

fn ten() -> u32 {
    10
}

struct Imp;

impl Search for Imp {
    async fn find(&self, query: String, limit: u32, after: Option<u64>) -> String {
        format!("{query} {limit} {after:?}")
    }
}

#[tokio::main]
async fn main() {
    let search = SearchClient::local(Imp);
    assert_eq!(search.find("x".to_owned(), 5, None).await.unwrap(), "x 5 None");
}
