// The sum of products of four signed bytes each, by the instruction for it.

fn dot_bytes(a: u32, b: u32) -> i32 {
    return dot4I8Packed(a, b);
}
