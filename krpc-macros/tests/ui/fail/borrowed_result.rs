#[krpc::service]
trait Words {
    async fn text(&self) -> &str;
    async fn maybe(&self) -> Result<Vec<&'static str>, &'static str>;
}

async fn use_it(client: WordsClient) {
    let _ = client.text().await;
}

fn main() {}
