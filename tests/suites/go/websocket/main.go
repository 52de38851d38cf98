// SPDX-License-Identifier: Apache-2.0

// Command websocket is both ends of the WebSocket suite: `serve ADDRESS` and `judge ADDRESS`.
//
// The judge goes through the sections of the Autobahn test suite against the server, whose strictness is that of
// github.com/coder/websocket, and prints a line for each case. It must judge only what both ends see: whoever stands between
// them is not known here. Read cases.go next.
package main

import (
	"fmt"
	"log"
	"os"
)

func main() {
	if len(os.Args) != 3 {
		log.Fatal("usage: websocket serve|judge ADDRESS")
	}
	switch os.Args[1] {
	case "serve":
		log.Fatal(serve(os.Args[2]))
	case "judge":
		if judge(os.Args[2]) > 0 {
			os.Exit(1)
		}
	default:
		log.Fatalf("no verb %q", os.Args[1])
	}
}

// judge runs every case and gives the number of those that failed.
func judge(address string) int {
	passed, failed := 0, 0
	for _, c := range cases() {
		if err := c.run(address); err != nil {
			failed++
			fmt.Printf("FAIL %s: %v\n", c.name, err)
			continue
		}
		passed++
		fmt.Printf("PASS %s\n", c.name)
	}
	fmt.Printf("%d passed, %d failed\n", passed, failed)
	return failed
}
