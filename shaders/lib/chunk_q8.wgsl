// 32 weights and activations as codes.

alias W = Codes;
alias X = XCodes;

fn w_chunk(row: u32, k: u32) -> W {
    return byte_codes(row, k);
}

fn x_stage(t: Tile, k: u32, lane: u32) {}

fn x_chunk(t: Tile, i: u32, k: u32, lane: u32) -> X {
    return x_codes(x_column(t, i), k);
}

fn dot_chunk(w: W, x: X) -> f32 {
    return dot_codes(w, x);
}
