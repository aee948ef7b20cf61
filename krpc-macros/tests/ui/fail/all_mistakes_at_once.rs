use krpc::Context;

#[krpc::service(version = "one")]
trait Bad<T> {
    fn blocking(&self, x: &str) -> u8;
    #[rpc(retry(max = 0))]
    async fn again(&self, (a, b): (u8, u8), cx: &Context) -> std::io::Result<()>;
    async fn fine(&self, x: u8) -> u8;
}

struct Imp;

impl Bad<u8> for Imp {
    fn blocking(&self, x: &str) -> u8 {
        x.len() as u8
    }
    async fn again(&self, (a, b): (u8, u8), _: &Context) -> std::io::Result<()> {
        drop((a, b));
        Ok(())
    }
    async fn fine(&self, x: u8) -> u8 {
        x
    }
}

async fn use_it() -> Result<(), Box<dyn std::error::Error>> {
    let _ = BadServer::new(Imp);
    let client = BadClient::connect("memory:").await?;
    let _: u8 = client.fine(1).await?;
    let _: u8 = client.blocking("x").await?;
    client.again((1, 2)).await?;
    Ok(())
}

fn main() {}
