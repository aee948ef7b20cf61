type Nothing = ();

#[krpc::service]
trait Log {
    #[rpc(one_way)]
    async fn value(&self, line: String) -> u64;
    #[rpc(one_way)]
    async fn fallible(&self, line: String) -> Result<u64, String>;
    #[rpc(one_way)]
    async fn alias(&self, line: String) -> Nothing;
    #[rpc(one_way)]
    async fn unit(&self, line: String) -> ();
    #[rpc(one_way)]
    async fn reason(&self, line: String) -> Result<(), String>;
}

async fn use_it(client: &LogClient) {
    let _: u64 = client.value(String::new()).await.unwrap();
    let _: () = client.unit(String::new()).await.unwrap();
}

fn main() {}
