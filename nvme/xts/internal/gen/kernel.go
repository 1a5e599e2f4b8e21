package main

import "nitro/internal/neon"

func kernels(forward, inverse []neon.Line) ([]byte, error) { var a neon.Asm; return a.File("x") }
