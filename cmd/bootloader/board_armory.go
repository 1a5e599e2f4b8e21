//go:build armory

package main

import (
	"nitro/board"
	"nitro/board/armory"
)

// open opens the board that the image is linked for.
func open() (board.Board, error) {
	b, err := armory.Open()
	if err != nil {
		return nil, err // not b: a nil *armory.Board is no nil board.Board
	}
	return b, nil
}
