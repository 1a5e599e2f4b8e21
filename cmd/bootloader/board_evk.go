//go:build !armory

package main

import (
	"nitro/board"
	"nitro/board/evk"
)

// open opens the board that the image is linked for.
func open() (board.Board, error) {
	b, err := evk.Open()
	if err != nil {
		return nil, err // not b: a nil *evk.Board is no nil board.Board
	}
	return b, nil
}
