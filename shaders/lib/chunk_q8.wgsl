// 32 weights and activations as codes.

alias W = Codes;
alias X = XCodes;

fn w_chunk(row: u32, k: u32) -> W {
    return byte_codes(row, k);
}

fn x_chunk(col: u32, k: u32) -> X {
    return x_codes(col, k);
}

fn dot_chunk(w: W, x: X) -> f32 {
    return dot_codes(w, x);
}
