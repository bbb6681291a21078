use idem_runtime::financial;

#[financial]
async fn create(body: String) -> String {
    body
}

fn main() {}
