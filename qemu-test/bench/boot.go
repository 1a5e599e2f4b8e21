package main

import (
	"context"
	"fmt"
	"path/filepath"
	"time"
)

var _ = filepath.Join
var _ = time.Second
var _ = fmt.Sprint

func (b *bench) bootArea(ctx context.Context) error { return nil }
