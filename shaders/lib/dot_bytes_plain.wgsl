// The sum of products of four signed bytes each, by arithmetic on single integers.

fn byte(v: u32, i: u32) -> i32 {
    return bitcast<i32>(v << (24u - 8u * i)) >> 24u;
}

fn dot_bytes(a: u32, b: u32) -> i32 {
    return byte(a, 0u) * byte(b, 0u) + byte(a, 1u) * byte(b, 1u) + byte(a, 2u) * byte(b, 2u) + byte(a, 3u) * byte(b, 3u);
}
