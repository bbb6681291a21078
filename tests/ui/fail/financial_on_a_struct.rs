use idem_runtime::financial;

#[financial]
struct Payment;

fn main() {}
