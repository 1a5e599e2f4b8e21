package main

import (
	"runtime"
	"slices"
	"time"
)

// measureNow gives what one call of time.Now takes: a loop of calls less an
// empty loop.
func measureNow() {
	var t time.Time
	with := least(rounds, func() float64 {
		return instructions(func() {
			for range perRound {
				t = time.Now()
			}
		})
	})
	runtime.KeepAlive(t)
	without := least(rounds, func() float64 {
		return instructions(func() {
			for range perRound {
			}
		})
	})
	figure("time.now", (with-without)/perRound)
}

// measurePingPong gives what a round trip over two unbuffered channels takes
// between two goroutines: the median and the smallest of the rounds.
func measurePingPong(name string) {
	const rounds = 21 // odd, so that one is in the middle
	ping, pong := make(chan struct{}), make(chan struct{})
	go func() {
		for range ping {
			pong <- struct{}{}
		}
		close(pong)
	}()
	turns := func() {
		for range perRound {
			ping <- struct{}{}
			<-pong
		}
	}
	turns() // the first round starts threads and fills caches
	var each []float64
	for range rounds {
		each = append(each, instructions(turns)/perRound)
	}
	close(ping)
	<-pong
	slices.Sort(each)
	figure(name, each[rounds/2])
	figure(name+"_min", each[0])
}
